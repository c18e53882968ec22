"""One file a question: its figures, their intervals, and what they mean."""

from vesalius.core.registry import Registry

_HERE = "vesalius.evaluate.metrics"
# --only names them; their order is that of metrics.json and of the report
METRICS = Registry(
    "metric",
    {
        "fidelity": f"{_HERE}.fidelity:METRIC",
        "diversity": f"{_HERE}.diversity:METRIC",
        "alignment": f"{_HERE}.alignment:METRIC",
        "privacy": f"{_HERE}.copies:METRIC",
        "membership": f"{_HERE}.membership:METRIC",
        "audit": f"{_HERE}.audit:METRIC",
        "anonymity": f"{_HERE}.anonymity:METRIC",
        "cost": f"{_HERE}.cost:METRIC",
    },
)
