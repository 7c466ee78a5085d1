"""What was measured on one machine."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EngineSpeed:
    """One engine in one precision.

    Attributes:
        engine: Its name in the settings.
        precision: "float32" or "bfloat16".
        device: What it computes on.
        rates: Images a second, window by window.
        ratios: Its rate over that of stock Keras in the same round.
        deviation: Largest absolute deviation of a feature from stock Keras in float32, over the
            largest absolute feature.
    """

    engine: str
    precision: str
    device: str
    rates: tuple[float, ...]
    ratios: tuple[float, ...]
    deviation: float

    @property
    def rate(self) -> float:
        """Images a second, the median over the windows."""
        return statistics.median(self.rates)

    @property
    def ratio(self) -> float:
        """Times as fast as stock Keras, the median over the rounds.

        Not the ratio of the medians: within a round both meet the same machine, so its drift drops
        out, while the medians may come from different rounds.
        """
        return statistics.median(self.ratios)


@dataclass(frozen=True)
class Bench:
    """All that was measured of one machine.

    Attributes:
        network: What runs, in words.
        images: On what, in words.
        operations: Additions and multiplications for an image, as stock Keras does them.
        product_rate: Operations a second of a plain float32 matrix product.
        engines: Stock Keras first.
        environment: Versions, backend, device, processor.
    """

    network: str
    images: str
    operations: int
    product_rate: float
    engines: Sequence[EngineSpeed]
    environment: Mapping[str, Any]

    def to_share(self, speed: EngineSpeed) -> float:
        """Useful operations over those of a matrix product in the same time; NaN on another device.

        Above 1 where an engine reaches the result with fewer operations than stock Keras does.
        """
        if speed.device != self.environment["device"]:
            return math.nan
        return speed.rate * self.operations / self.product_rate

    def to_dict(self) -> dict[str, Any]:
        """As JSON knows it, medians included; None where there is no share."""
        engines = []
        for speed in self.engines:
            share = self.to_share(speed)
            engines.append(
                {
                    **asdict(speed),
                    "rate": speed.rate,
                    "ratio": speed.ratio,
                    "operations_per_second": speed.rate * self.operations,
                    "share_of_product": None if math.isnan(share) else share,
                }
            )
        return {**asdict(self), "engines": engines}
