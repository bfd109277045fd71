"""The model of costs, against values worked out by hand.

That compiled programs agree with it is tested with the benchmark of scale.
"""

import dataclasses
import math

import pytest

from experiments.common.costs import (
    MACHINES,
    Costs,
    backbone_costs,
    head_costs,
)

B, D = 4096, 512


@pytest.mark.parametrize(
    ("machine", "milliseconds"),
    # Products, traffic of the logits at 20 bytes each, and bytes sent.
    [("TPU v5e", (8.0, 12.5, 0.11)), ("H100", (1.6, 3.1, 0.024))],
)
def test_a_million_classes_on_eight_devices(machine, milliseconds):
    found, machine = head_costs(1_000_000, 8, B, D), MACHINES[machine]
    products = 1e3 * found.flops / machine.flops
    logits = 1e3 * found.moved_logits / machine.bandwidth
    sent = 1e3 * found.sent / machine.interconnect
    assert (products, logits) == pytest.approx(milliseconds[:2], rel=0.03)
    assert sent == pytest.approx(milliseconds[2], rel=0.05)
    # Params, gradient and momentum; logits, their gradient and the rows in bfloat16.
    assert found.held == pytest.approx(0.768e9, rel=1e-3)
    assert found.temporaries == pytest.approx(6 * B * 125e3 + 2 * 125e3 * D, rel=1e-2)
    # Memory is slower than the products, and nothing is hidden behind them.
    expected = (found.moved + found.moved_logits) / machine.bandwidth
    expected += found.sent / machine.interconnect
    assert found.seconds(machine) == pytest.approx(expected)


def test_blocks_need_four_products_and_the_memory_of_one_block():
    plain = head_costs(1_000_000, 8, B, D)
    blocked = head_costs(1_000_000, 8, B, D, block_size=2048)
    assert blocked.flops == pytest.approx(4 / 3 * plain.flops)
    assert plain.temporaries - blocked.temporaries == B * (6 * 125_008 - 10 * 2048)
    assert blocked.blocks == 2 * math.ceil(125_008 / 2048)
    assert (blocked.held, blocked.sent) == (plain.held, plain.sent)
    # Logits of a block that stays beside the processor do not count.
    small = head_costs(1_000_000, 8, B, D, block_size=1024)
    machine = MACHINES["TPU v5e"]
    assert small.block == 4 * B * 1024 < machine.cache
    time = max(small.flops / machine.flops, small.moved / machine.bandwidth)
    assert small.seconds(machine) == pytest.approx(
        time + small.blocks * machine.launch + small.sent / machine.interconnect
    )


def test_sampling_divides_what_touches_rows():
    plain = head_costs(1_280_000, 8, B, D)
    frozen = head_costs(1_280_000, 8, B, D, rate=0.1)
    dense = head_costs(1_280_000, 8, B, D, rate=0.1, untouched="dense")
    assert frozen.flops == pytest.approx(0.1 * plain.flops)
    assert frozen.moved_logits == pytest.approx(0.1 * plain.moved_logits)
    params = 4 * 160_000 * D
    assert frozen.held == pytest.approx(2.1 * params)
    assert dense.held == pytest.approx(3.1 * params)
    # The update of every row against that of a tenth.
    assert dense.moved - frozen.moved == pytest.approx((5 - 6 * 0.1) * params)
    assert frozen.sent - plain.sent == pytest.approx(7 / 8 * 12 * B)


def test_what_is_sent_depends_on_where_examples_are():
    gathered = head_costs(128_000, 8, B, D).sent
    equal = head_costs(128_000, 8, B, D, gathered=False).sent
    numbers = 7 / 8 * 32 * B
    assert gathered == pytest.approx(7 / 8 * ((2 + 4) * B * D + 4 * B) + numbers)
    assert equal == pytest.approx(2 * 7 / 8 * 4 * B * D + numbers)
    # Examples that stay split over other devices cost the gradient of all prototypes.
    split = head_costs(128_000, 4, B, D, batch_devices=2).sent
    half = head_costs(128_000, 4, B // 2, D).sent
    assert split - half == pytest.approx(4 * 32_000 * D)
    assert head_costs(128_000, 1, B, D).sent == 0


def test_a_hundred_million_classes_need_blocks_on_256_devices():
    plain = head_costs(100_000_000, 256, 16_384, D)
    blocked = head_costs(100_000_000, 256, 16_384, D, block_size=4096)
    machine = MACHINES["TPU v5e"]
    assert plain.peak > machine.memory > blocked.peak
    assert 0.1 < blocked.seconds(machine) < 0.3
    assert blocked.held == pytest.approx(2.4e9, rel=1e-3)


def test_the_network_before_the_head():
    # IResNet-100 at 112 x 112: 12.1e9 multiplications, 65e6 params.
    found = backbone_costs(12.1e9, 65e6, 100e6, B, 8)
    assert found.flops / MACHINES["TPU v5e"].flops == pytest.approx(0.189, rel=0.01)
    assert found.held == 12 * 65e6
    assert found.temporaries == 100e6 * 512
    assert found.sent == pytest.approx(2 * 7 / 8 * 4 * 65e6)
    head = head_costs(128_000, 8, B, D)
    both = found + head
    for field in dataclasses.fields(Costs):
        values = [getattr(each, field.name) for each in (found, head, both)]
        assert values[2] == (max if field.name == "block" else sum)(values[:2])
    assert both.peak == found.peak + head.peak
