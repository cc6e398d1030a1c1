"""The try-on prompt that is used when a message brings none."""

DEFAULT_PROMPT = (
    "Virtual try-on. The first image shows a person; every further image shows a garment or an accessory. "
    "Create one photorealistic picture of exactly this person wearing all of these items. "
    "Keep the person's face, hair, skin tone, body shape, pose and the background unchanged. "
    "Reproduce each item faithfully: colour, pattern, fabric, logos and cut; let it fit and fold naturally, "
    "with light and shadow that match the photo. Replace only what the new items cover. "
    "Show the person from head to feet when the first image does. Add no text, watermark or frame."
)
