"""Calls to OpenAI: one request, its answer by meaning, and the state of the model. `openai_images` is the door."""
