"""Anthropic's client sees that a stream is not whole: it raises, after what came before the break."""

from anthropic import Anthropic, APIStatusError

client = Anthropic(max_retries=0, timeout=20)
hello = [{"role": "user", "content": "Hello"}]

text = ""
try:
    with client.messages.stream(model="claude-sonnet-5", max_tokens=100, messages=hello) as stream:
        for piece in stream.text_stream:
            text += piece
except APIStatusError as error:
    assert error.body["error"]["type"], error
else:
    raise AssertionError("a part was taken for the whole")
assert text, "what came before the break is seen"
