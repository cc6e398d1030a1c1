"""Words by which an error of OpenAI is told: one status or code stands for several things."""

import re

# Words of `code` and `type`, lower case with underscores: families, because OpenAI adds members every few months.
RATE = re.compile(r"rate_limit|slow_down|too_many_requests")
QUOTA = re.compile(
    r"quota|billing|payment|(^|_)(credits?|spend|spending|budget)(_|$)|(usage|hard|monthly)_limit|insufficient_(funds|balance)"
)
ACCOUNT = re.compile(
    r"api_key|unauthorized|authentication|permission|forbidden|access_(denied|terminated)|unsupported_country|ip_not_"
    r"|(account|organization|project|user)_.*(deactivat|disabl|suspend|terminat|archiv|not_found|not_active|verif)"
    r"|(invalid|mismatched)_(organization|project)"
)
MODERATION = re.compile(r"moderation|content_(policy|filter)|safety|unsafe|policy_violation")
MODEL = re.compile(
    r"model_.*(not|deprecat|retired|removed|shut|gone|unavailable|unsupported)|(unknown|invalid)_model|deprecated"
)
PICTURE = re.compile(
    r"(invalid|unsupported|corrupt\w*|unreadable|bad)_image|image_.*(invalid|too_|pars|decod|format|dimension)"
)

# Sentences, for answers whose code says nothing. Those about the account are tied to their beginning: the rest of a
# sentence may repeat what a customer has sent.
QUOTA_SENTENCE = re.compile(
    r"you (have )?exceeded your current quota|billing hard limit|your (account is not active|credit balance)"
    r"|you (have )?run out of credits",
    re.I,
)
VERIFY_SENTENCE = re.compile(r"(your )?organi[sz]ation must be verified", re.I)
SCOPE = re.compile(r"insufficient permissions|missing.scopes?", re.I)
REJECTED_SENTENCE = re.compile(r"safety[ _]system|safety_violations|content[ _](policy|filter)|\bmoderation", re.I)
POLICY_SENTENCE = re.compile(r"usage polic|policy violation|violat\w+ (of )?(our|openai'?s?|the) [\w ]{,80}polic", re.I)
MODEL_SENTENCE = re.compile(
    r"\bmodel\b.{0,120}(does not exist|not found|no longer|deprecated|shut ?down|retired|removed|discontinued)"
    r"|\bmodel\b.{0,120}not have access|not have access to (the )?model|deprecated.{0,60}\bmodel\b",
    re.I | re.S,
)
#: No more than a hint: the answer speaks of a model, perhaps of what it does not take.
MENTIONS_MODEL = re.compile(r"gpt-image|dall-e|\bmodel\b", re.I)
PICTURE_SENTENCE = re.compile(
    r"invalid image file|(could not|cannot|unable to|failed to) (read|process|decode|parse|open) .{0,20}image", re.I
)

# For errors without a status of their own.
RATE_SENTENCE = re.compile(r"rate.?limit|too many requests|slow down", re.I)
SERVER_SENTENCE = re.compile(r"server.?error|internal|overload|unavailable|time.?d?.?out|bad.gateway|api_error", re.I)
