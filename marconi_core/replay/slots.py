"""A limit on requests in flight that respects the order of the trace."""

import asyncio
import heapq
import math


class Slots:
    """Slots for requests; of several that wait, the lowest number is next.

    Args:
        count: slots; None for no limit.
    """

    def __init__(self, count: int | None) -> None:
        self._free = count
        self._waiting: list[tuple[int, asyncio.Future[float]]] = []

    async def take(self, number: int) -> float:
        """Wait for a slot; return the loop's time when it became free, -inf if one was free."""
        if self._free is None:
            return -math.inf
        if self._free:
            self._free -= 1
            return -math.inf
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (number, future))
        return await future

    def give_back(self) -> None:
        """Hand a slot to the next that waits."""
        if self._free is None:
            return
        while self._waiting:
            _, future = heapq.heappop(self._waiting)
            if not future.done():  # else whoever waited was cancelled
                future.set_result(asyncio.get_running_loop().time())
                return
        self._free += 1
