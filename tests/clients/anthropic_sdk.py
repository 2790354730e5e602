"""The official Anthropic client, as its users call it: ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY say where."""

from anthropic import Anthropic

client = Anthropic(max_retries=0, timeout=20)
hello = [{"role": "user", "content": "Hello"}]

assert [model.id for model in client.models.list()], "no models"

whole = client.messages.create(model="claude-sonnet-5", max_tokens=100, messages=hello)
assert whole.content[0].text, whole
assert whole.usage.output_tokens > 0, whole

with client.messages.stream(model="claude-sonnet-5", max_tokens=100, messages=hello) as stream:
    text = "".join(stream.text_stream)
    final = stream.get_final_message()
assert text and final.stop_reason, final
assert final.usage.output_tokens > 0, final

count = client.messages.count_tokens(model="claude-sonnet-5", messages=hello)
assert count.input_tokens > 0, count
