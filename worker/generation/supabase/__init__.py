"""Supabase: functions of the database, the bucket, and the meaning of their refusals."""
