"""The Supabase project: API keys, PostgREST over the real PostgreSQL, and Storage."""
