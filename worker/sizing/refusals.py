"""The reasons why a picture is refused, each with a sentence and a hint for the customer."""

from worker.sizing.answers import Reason

_SENTENCES: dict[Reason, tuple[str, str]] = {
    "no_person": (
        "No person was found in the photo.",
        "Take a photo of one whole person, standing in front of a calm background.",
    ),
    "several_people": (
        "There is more than one person in the photo.",
        "Take a photo with nobody else in it, also not in a mirror or on a poster.",
    ),
    "not_full_body": (
        "The photo does not show the whole body.",
        "Step back until head and feet are in the picture with some space around them.",
    ),
    "side_view": ("The person is turned to the side.", "Face the camera with shoulders and hips."),
    "seated_or_bent": ("The person is not standing upright.", "Stand straight with both feet on the floor."),
    "arms_cover_torso": (
        "The arms or an object cover the torso.",
        "Put away what is in front of the body, and let the arms hang a little away from it.",
    ),
    "too_small": ("The person is too small in the photo.", "Step closer until the body fills most of the height."),
    "too_dark_or_blurred": (
        "The photo is too dark or too blurred.",
        "Use more light, hold the camera still and clean its lens.",
    ),
}


class PhotoRefused(Exception):
    """The picture cannot be measured; the text is for the customer, as is `hint`."""

    def __init__(self, reason: Reason) -> None:
        sentence, self.hint = _SENTENCES[reason]
        super().__init__(sentence)
        self.reason = reason
