"""Sessions: rows in Supabase, the lease and marks in Redis, and the outcome until the database has it."""
