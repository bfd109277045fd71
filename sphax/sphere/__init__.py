"""Geometry of the unit sphere; vectors lie on the last axis."""

from sphax import _discovery
from sphax.sphere._angles import angle as angle
from sphax.sphere._arcsin import arcsin as arcsin
from sphax.sphere._cosines import cosine_similarity as cosine_similarity
from sphax.sphere._cosines import inner_products as inner_products
from sphax.sphere._geodesics import exp_map as exp_map
from sphax.sphere._geodesics import log_map as log_map
from sphax.sphere._geodesics import parallel_transport as parallel_transport
from sphax.sphere._geodesics import project_to_tangent as project_to_tangent
from sphax.sphere._geodesics import retract as retract
from sphax.sphere._lengths import direction as direction
from sphax.sphere._lengths import length as length
from sphax.sphere._lengths import normalize as normalize
from sphax.sphere._sampling import sample_uniform as sample_uniform
from sphax.sphere._stereographic import angle_to_north_pole as angle_to_north_pole
from sphax.sphere._stereographic import inverse_stereographic as inverse_stereographic

__dir__ = _discovery.dir_of(__name__)
