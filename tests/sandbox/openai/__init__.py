"""The image API of OpenAI."""
