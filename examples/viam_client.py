"""Classify pictures by an ML model service of a Viam machine. It needs the extras viam and cli.

$ python examples/viam_client.py viam://localhost:8080/digits accelerate/data/digit.png
accelerate/data/digit.png: 7 1.00
"""

from __future__ import annotations

import argparse
import sys

import accelerate
from accelerate.vision import Classifier


def main() -> None:
    """Print the best class of each picture."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("url", help="viam://host:port/service")
    parser.add_argument("pictures", nargs="+")
    arguments = parser.parse_args()

    try:
        # pixels from -1 to 1, as it was trained: a machine does not say; docs/viam.md has the keys of Viam's app
        with accelerate.load(arguments.url, normalization=(127.5, 127.5)) as model:
            classify = Classifier(model, max_results=1)
            for picture in arguments.pictures:
                best = classify(picture, timeout=5)[0]
                print(f"{picture}: {best.label} {best.score:.2f}")
    except accelerate.AccelerateError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
