"""The official Gemini client counts tokens: apart, because not every upstream of that dialect does."""

from google import genai

client = genai.Client()
count = client.models.count_tokens(model="gemini-3-pro", contents="Hello")
assert count.total_tokens > 0, count
