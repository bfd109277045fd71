"""Faces cut out by five points."""

import numpy as np
from PIL import Image, ImageOps

# Where eyes, nose and corners of the mouth are in an image of 112 x 112 pixels.
POINTS = np.array(
    [
        [38.2946, 51.6963],
        [73.5318, 51.5014],
        [56.0252, 71.7366],
        [41.5493, 92.3655],
        [70.7299, 92.2041],
    ]
)


def similarity(points: np.ndarray, target: np.ndarray = POINTS) -> np.ndarray:
    r"""The rotation, scale and shift that takes points nearest to others, ``[2, 3]``.

    Least squares over :math:`z \mapsto a z + b` of complex numbers, which has no
    reflections:

    .. math:: a = \frac{\sum \overline{(z - \bar z)} (w - \bar w)}{\sum |z - \bar z|^2},
        \qquad b = \bar w - a \bar z.

    Args:
        points: Not all the same, ``[points, 2]``.
        target: Where they should be, ``[points, 2]``.

    Raises:
        ValueError: If all points are the same.
    """
    z, w = (np.asarray(x, np.float64) @ (1.0, 1.0j) for x in (points, target))
    centered = z - z.mean()
    spread = np.vdot(centered, centered).real
    if not spread > 0.0:
        raise ValueError(f"points must not all be the same, got {z[0]} for each.")
    a = np.vdot(centered, w - w.mean()) / spread
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def aligned(image: np.ndarray, points: np.ndarray, size: int = 112) -> np.ndarray:
    """A face turned, scaled and shifted to the usual place, uint8, ``[size, size, 3]``.

    Bilinear, with 0 outside the image. Whole numbers are the centers of pixels.

    Args:
        image: uint8, ``[height, width, 3]``.
        points: Eyes, nose and corners of the mouth in it, ``[5, 2]``.
        size: Side of the result.
    """
    forward = similarity(points, POINTS * (size / 112))
    turn = np.linalg.inv(forward[:, :2])
    shift = -turn @ forward[:, 2]
    # Pillow counts from the corners of pixels; and one pixel of zeros around the image
    # makes its border fade out, where Pillow would repeat the last pixel.
    shift += 1.5 - turn @ (0.5, 0.5)
    inverse = np.column_stack([turn, shift]).ravel().tolist()
    bordered = ImageOps.expand(Image.fromarray(image), 1, 0)
    result = bordered.transform(
        (size, size),
        Image.Transform.AFFINE,
        inverse,
        Image.Resampling.BILINEAR,
    )
    return np.asarray(result)
