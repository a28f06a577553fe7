"""`make simulate SEEDS=n FIRST=seed`: run that many seeds, and show the first one that breaks a promise."""

import sys
import time

from tests.simulation.run import simulate

first, count = int(sys.argv[1]), int(sys.argv[2])
began = time.time()
bad = 0
for seed in range(first, first + count):
    outcome = simulate(seed, told=len(sys.argv) > 3)
    if outcome.violations:
        bad += 1
        print("seed", seed, outcome.violations[:3])
        if len(sys.argv) > 3:
            print("\n".join(outcome.trace))
print(count, "seeds", bad, "bad", round(time.time() - began, 1), "s")
