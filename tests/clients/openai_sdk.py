"""The official OpenAI client, as its users call it: OPENAI_BASE_URL and OPENAI_API_KEY say where."""

from openai import OpenAI

client = OpenAI(max_retries=0, timeout=20)
hello = [{"role": "user", "content": "Hello"}]

assert [model.id for model in client.models.list()], "no models"

whole = client.chat.completions.create(model="gpt-5", messages=hello)
assert whole.choices[0].message.content, whole
assert whole.usage.total_tokens > 0, whole

stream = client.chat.completions.create(
    model="gpt-5", messages=hello, stream=True, stream_options={"include_usage": True}
)
chunks = list(stream)
text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
assert text, chunks
assert chunks[-1].usage.total_tokens > 0, chunks[-1]

response = client.responses.create(model="gpt-5", input="Hello")
assert response.output_text, response
kinds = [event.type for event in client.responses.create(model="gpt-5", input="Hello", stream=True)]
assert kinds[-1] == "response.completed", kinds

embedding = client.embeddings.create(model="text-embedding-3-small", input="Hello")
assert embedding.data[0].embedding, embedding
