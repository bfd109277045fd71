"""Losses on the sphere.

Train with them under :func:`jax.jit`: the compiler then fuses a whole step, which
otherwise runs operation by operation. Every new shape compiles again: pad a smaller
last batch to the size of the others, and leave the padding out by ``where``.

Arguments may lie on many devices, on a mesh of :func:`jax.make_mesh` with explicit or
automatic axes. With ``block_size``, a block has as many classes of every device, and
no prototype is sent to another device.
"""

from sphax import _discovery
from sphax.losses._adacos import adacos_dynamic_scale as adacos_dynamic_scale
from sphax.losses._adacos import adacos_fixed_scale as adacos_fixed_scale
from sphax.losses._angular import angular as angular
from sphax.losses._center import center as center
from sphax.losses._center import update_centers as update_centers
from sphax.losses._circle import circle as circle
from sphax.losses._class_logits import class_logits as class_logits
from sphax.losses._class_logits import subcenter_cosines as subcenter_cosines
from sphax.losses._contrastive import contrastive as contrastive
from sphax.losses._core.pairs import PairOptions as PairOptions
from sphax.losses._dcl import dcl as dcl
from sphax.losses._dominant_subcenters import angles_to_dominant as angles_to_dominant
from sphax.losses._dominant_subcenters import dominant_subcenters as dominant_subcenters
from sphax.losses._elbo import importance_weighted_elbo as importance_weighted_elbo
from sphax.losses._elbo import negative_elbo as negative_elbo
from sphax.losses._ge2e import ge2e as ge2e
from sphax.losses._hinge import hinge as hinge
from sphax.losses._hyperspherical_prototypes import (
    hyperspherical_prototype as hyperspherical_prototype,
)
from sphax.losses._imprint import imprint as imprint
from sphax.losses._info_nce import info_nce as info_nce
from sphax.losses._koleo import koleo as koleo
from sphax.losses._lifted import lifted as lifted
from sphax.losses._margin_loss import margin_loss as margin_loss
from sphax.losses._margin_softmax import MarginAux as MarginAux
from sphax.losses._margin_softmax import check_margin_softmax as check_margin_softmax
from sphax.losses._margin_softmax import margin_softmax as margin_softmax
from sphax.losses._margin_softmax import (
    margin_softmax_per_example as margin_softmax_per_example,
)
from sphax.losses._matryoshka import matryoshka as matryoshka
from sphax.losses._memory import MemoryBank as MemoryBank
from sphax.losses._memory import enqueue as enqueue
from sphax.losses._memory import init_memory as init_memory
from sphax.losses._mining import distance_log_weights as distance_log_weights
from sphax.losses._mining import mine_easy_positive as mine_easy_positive
from sphax.losses._mining import mine_multi_similarity as mine_multi_similarity
from sphax.losses._mining import pair_masks as pair_masks
from sphax.losses._mining import sample_negatives as sample_negatives
from sphax.losses._multi_similarity import multi_similarity as multi_similarity
from sphax.losses._n_pair import n_pair as n_pair
from sphax.losses._norm_variance import norm_variance as norm_variance
from sphax.losses._nt_xent import nt_xent as nt_xent
from sphax.losses._p2sgrad import p2sgrad as p2sgrad
from sphax.losses._pair_variance import pair_variance as pair_variance
from sphax.losses._polar_regression import polar_regression as polar_regression
from sphax.losses._polar_regression import polar_values as polar_values
from sphax.losses._prototypical import prototypical as prototypical
from sphax.losses._prototypical import prototypical_logits as prototypical_logits
from sphax.losses._proxy_anchor import proxy_anchor as proxy_anchor
from sphax.losses._proxy_nca import proxy_nca as proxy_nca
from sphax.losses._ring import ring as ring
from sphax.losses._sigmoid_pairs import sigmoid_pairs as sigmoid_pairs
from sphax.losses._soft_triple import soft_triple as soft_triple
from sphax.losses._sphere_gan import sphere_gan_critic as sphere_gan_critic
from sphax.losses._sphere_gan import sphere_gan_generator as sphere_gan_generator
from sphax.losses._sphereface2 import sphereface2 as sphereface2
from sphax.losses._sphereface2 import sphereface2_bias as sphereface2_bias
from sphax.losses._supervised_contrastive import (
    supervised_contrastive as supervised_contrastive,
)
from sphax.losses._triplet import triplet as triplet
from sphax.losses._tuplet_margin import tuplet_margin as tuplet_margin
from sphax.losses._uce import uce as uce
from sphax.losses._uce import uce_bias as uce_bias
from sphax.losses._uniform_face import uniform_face as uniform_face
from sphax.losses._uss import uss as uss
from sphax.losses._uss import uss_bias as uss_bias
from sphax.losses._vmf_likelihood import vmf_likelihood as vmf_likelihood

__dir__ = _discovery.dir_of(__name__)
