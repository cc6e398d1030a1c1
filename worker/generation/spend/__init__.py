"""Spend on OpenAI: reserved before a paid call, counted after it, held below the budgets."""
