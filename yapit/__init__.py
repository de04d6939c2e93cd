"""Open text-to-speech models as stateless functions, on any serverless provider."""
