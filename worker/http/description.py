"""The text at the head of the OpenAPI document."""

DESCRIPTION = """Clothing size from the stated height, and from a photo, the weight or both.

**Basis.** The girths start from measured people of that height, weight, sex and age. A photo corrects them as far as
it can be relied on, and a second one from the side (`side_image_url`) corrects them by the depths of the body. Without
a photo the answer rests on those people alone (`basis: "prior"`).

**Limits.** The photo's girths are read from the outline of the body in a frontal view. They hold for tight clothing:
loose clothing overestimates them by 10 cm and more. `uncertainty_cm`, `confidence` and `size_probabilities` say how
sure the answer is; `recommendation: "unsure"` says that a shop should rather ask. `warnings` are what makes the
answer less sure: `loose_clothing` (the outline counts little, and its surplus is taken off), `arms_touch_torso` (arms
hide part of the outline), `unusual_outline` (very unlike the bodies that the model was fitted on), `weight_unlikely`
(the stated weight contradicts the photo; `hint` explains), `side_photo_unusable` (the front view counts alone; `hint`
says why), `beyond_chart` (larger than the largest size). Nothing of the photos is stored.

**Size.** `recommended_size` is the smallest size whose limits hold, by chest in the default chart (XS 84, S 92, M
100, L 108, XL 116 cm, else XXL). `confidence` is the probability that it fits, and `verdicts` say how every
size fits, place by place. `body_type` is rough: `broad` from a
waist of 0.53 of the height, else `athletic` from a chest of 1.22 times the waist, else `slim` below a waist of 0.42
of the height, else `average`.
"""
