"""Gemini's client sees that a stream is not whole: it raises, after what came before the break."""

from google import genai
from google.genai import errors

client = genai.Client()

text = ""
try:
    for chunk in client.models.generate_content_stream(model="gemini-3-pro", contents="Hello"):
        text += chunk.text or ""
except errors.APIError as error:
    assert error.status and error.message, error
else:
    raise AssertionError("a part was taken for the whole")
assert text, "what came before the break is seen"
