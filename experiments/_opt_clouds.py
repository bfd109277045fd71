"""Point clouds as a problem: which shape they were drawn from."""

from flax import nnx

from experiments._clouds import CloudSet
from experiments._opt_problems import Examples, Problem, classification
from experiments._pointnet import PointNet


def point_network(clouds: CloudSet, width: float) -> Problem:
    """A PointNet with a share of its published layers."""

    def network(seed: int) -> PointNet:
        return PointNet(clouds.classes, width=width, rngs=nnx.Rngs(seed))

    train, test = Examples(*clouds.train), Examples(*clouds.test)
    return classification("PointNet", network, lambda points: points, train, test)
