"""mini as a model of medigan: `generators.generate("VESALIUS_MINI", prompt="brain MRI, glioma")`.

medigan calls `generate` once a batch with the same arguments, and once more for what is left, which may
be nothing. `model_file` is the file of weights that medigan looks for; here its text names the model.
"""

import secrets
from pathlib import Path

import numpy as np


def generate(
    model_file: str,
    num_samples: int,
    output_path: str,
    save_images: bool,
    prompt: str = "chest X-ray, pneumonia",
    seed: int | None = None,
) -> list[np.ndarray] | None:
    """`num_samples` images of `prompt`: PNG files in `output_path`, or a list of uint8 arrays (H, W, 3).

    The files say inside that they are synthetic. Without `seed` each batch draws one of its own; with it
    every batch is the same. Raises VesaliusError for an empty prompt and a model that is none.
    """
    import vesalius
    from vesalius.images.encode import encode_image

    if num_samples == 0:
        return None if save_images else []
    first = secrets.randbelow(2**31) if seed is None else seed
    model = vesalius.load(Path(model_file).read_text().strip())
    samples = model.generate(prompt, n=num_samples, seed=first)
    if not save_images:
        return [np.asarray(sample.image) for sample in samples]
    for sample in samples:
        data = encode_image(np.asarray(sample.image), sample.provenance)
        (Path(output_path) / f"{sample.request.seed}.png").write_bytes(data)
    return None
