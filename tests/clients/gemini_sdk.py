"""The official Gemini client, as its users call it: GOOGLE_GEMINI_BASE_URL and GEMINI_API_KEY say where."""

from google import genai

client = genai.Client()

whole = client.models.generate_content(model="gemini-3-pro", contents="Hello")
assert whole.text, whole
assert whole.usage_metadata.total_token_count > 0, whole

chunks = list(client.models.generate_content_stream(model="gemini-3-pro", contents="Hello"))
assert "".join(chunk.text or "" for chunk in chunks), chunks
