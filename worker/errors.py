"""Every error that the worker raises on purpose.

WorkerError
├── SettingsError            a variable is missing or malformed; the start ends with one line
├── InvalidMessage           the JSON on the Redis list cannot be used; dead-lettered
├── PartEnded                a part of the container died or hangs; the text says which and how
├── ServiceUnavailable       Redis, the database or the storage did not do it this time; tried again
├── CallRejected             the database gives this answer for good, however often it is asked
└── GenerationError          a generation ends with "failed" and the credit goes back
    ├── ImageError           one of the customer's pictures cannot be used
    │   ├── ImageRefused     its address is not allowed (SSRF guard)
    │   ├── ImageUnavailable it could not be downloaded
    │   ├── ImageTooLarge    more bytes than the limit
    │   │   └── ImageTooManyPixels  more pixels than we decode in its format
    │   └── ImageInvalid     it is no picture that we can read
    ├── ModerationBlocked    OpenAI refused the content
    ├── RateLimited          OpenAI answered 429; one retry by the pipeline
    ├── Postponed            no customer is failed for it: the session waits in the queue again
    │   ├── AccountRefused   OpenAI or Supabase refuses our account: no money, no permission, no bucket
    │   ├── ServiceOutage    OpenAI fails, or does not answer, after all retries
    │   ├── Paused           the intake is paused; the paid call was not made
    │   └── Preempted        others need the slot or the calls of bulk; the paid call was not made
    ├── EditFailed           any other final answer of OpenAI
    ├── StorageFailed        the finished picture could not be stored
    ├── MessageRefused       the message is invalid or names the wrong owner
    ├── ConsentMissing       the message names no consent or no verified age, and REQUIRE_CONSENT asks for both
    ├── BudgetExhausted      the day's or month's budget of the payer, or of all, has no room for another picture
    ├── MessageExpired       the message waited longer than its time to live
    ├── DeadlineExceeded     the generation took longer than its deadline
    ├── Cancelled            an operator has cancelled the bulk before it began
    ├── Orphaned             no message accounts for the session
    └── WorkerLost           the worker died, or was told to stop, in the middle of the call

`str(error)` is for the log: it names what was wrong, the value, the limit and the remedy. `user_message` is one of a
closed list of plain sentences, the only text that reaches `error_message` in the database. `reason` is the error's name
in metrics and dead letters.
"""


class WorkerError(Exception):
    """Base of everything below."""


class SettingsError(WorkerError):
    """A setting is missing or malformed; the text names the environment variable."""


class InvalidMessage(WorkerError):
    """The message cannot be used; `reason` is one of a closed set (see `generation.metrics`)."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


class PartEnded(WorkerError):
    """A part of the container died or hangs; the text says which and how."""


class ServiceUnavailable(WorkerError):
    """A service did not answer, or gave an unusable answer; the same call may be repeated."""


class CallRejected(WorkerError):
    """The database rejects the values of a call; the same call fails again."""


class GenerationError(WorkerError):
    """The generation ends here: the session is failed with `user_message` and the payer is refunded."""

    reason = "internal"
    user_message = "Something went wrong while creating your try-on. Your credit has been returned."


class ImageError(GenerationError):
    """One of the customer's pictures cannot be used."""

    reason = "image_invalid"
    user_message = "One of the photos could not be used. Please try again with another photo."


class ImageRefused(ImageError):
    reason = "image_refused"
    user_message = "The address of one of the photos is not allowed. Please upload the photo again."


class ImageUnavailable(ImageError):
    reason = "image_unavailable"
    user_message = "One of the photos could not be downloaded. Please upload it again."


class ImageTooLarge(ImageError):
    reason = "image_too_large"
    user_message = "One of the photos is too large. Please use a smaller photo of at most 10 MB."


class ImageTooManyPixels(ImageTooLarge):
    user_message = (
        "One of the photos has too many pixels. Please save it as a JPEG, or use a photo of at most 12 megapixels."
    )


class ImageInvalid(ImageError):
    user_message = "One of the photos could not be read. Please use a JPEG, PNG, WebP or HEIC photo."


class ModerationBlocked(GenerationError):
    reason = "moderation_blocked"
    user_message = "The photos did not pass our content check. Please try again with other photos."


class RateLimited(GenerationError):
    """`retry_after` is what the answer asked for, in seconds; 0 when it did not say."""

    reason = "rate_limited"
    user_message = "We are very busy right now. Please try again in a few minutes."

    def __init__(self, detail: str, retry_after: float) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Postponed(GenerationError):
    """`reason` is what the pause of the intake is called in /health, metrics and alerts."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class AccountRefused(Postponed):
    """A service refuses the operator's account, whatever the customer sends."""


class ServiceOutage(Postponed):
    """OpenAI answered 5xx, or not at all, until the retries were used up."""


class Paused(Postponed):
    """The intake is paused and this session is not the probe; `reason` is the pause's."""


class Preempted(Postponed):
    """Bulk waits again; the intake goes on."""


class EditFailed(GenerationError):
    reason = "edit_failed"
    user_message = "Your try-on could not be created. Please try again later."


class StorageFailed(GenerationError):
    reason = "storage_failed"
    user_message = "Your try-on could not be saved. Please try again later."


class MessageRefused(GenerationError):
    reason = "message_refused"


class ConsentMissing(GenerationError):
    reason = "consent_missing"
    user_message = "Please accept the terms and confirm your age, then try again. Your credit has been returned."


class BudgetExhausted(GenerationError):
    reason = "budget_exhausted"
    user_message = "No try-ons can be made at the moment. Please try again later. Your credit has been returned."


class MessageExpired(GenerationError):
    reason = "expired"
    user_message = "Your try-on could not be started in time. Please try again."


class DeadlineExceeded(GenerationError):
    reason = "deadline_exceeded"
    user_message = "Creating your try-on took too long. Please try again."


class WorkerLost(GenerationError):
    reason = "worker_lost"
    user_message = "Creating your try-on was interrupted. Please try again."


class Orphaned(GenerationError):
    reason = "orphaned"
    user_message = "Your try-on could not be started. Please try again."


class Cancelled(GenerationError):
    reason = "cancelled"
    user_message = "This try-on was cancelled before it began. Your credit has been returned."
