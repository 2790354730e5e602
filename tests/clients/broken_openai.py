"""OpenAI's client sees that a stream is not whole: it raises, or tells of a failed response."""

from openai import APIError, OpenAI

client = OpenAI(max_retries=0, timeout=20)

text = ""
try:
    for chunk in client.chat.completions.create(
        model="gpt-5", messages=[{"role": "user", "content": "Hello"}], stream=True
    ):
        text += chunk.choices[0].delta.content or ""
except APIError as error:
    assert error.message and error.body, error
else:
    raise AssertionError("a part was taken for the whole")
assert text, "what came before the break is seen"

events = []
try:
    for event in client.responses.create(model="gpt-5", input="Hello", stream=True):
        events.append(event)
except APIError as error:
    assert error.message, error
else:
    assert events[-1].type == "response.failed", events[-1]
    assert events[-1].response.error.message, events[-1]
assert any(event.type == "response.output_text.delta" for event in events), events
