"""Figures, which are no arrays: tests of their own compare what is drawn."""

from tests.calls._call import Call

CALLS: list[Call] = []
EXEMPT = {
    f"plots.{name}": "draws"
    for name in (
        *("angles", "circle", "cmc", "confusion", "det", "energy_report", "gram"),
        *("orthogonality", "psi", "roc", "sphere"),
    )
}
