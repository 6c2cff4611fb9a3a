"""Classify all pictures in a folder, and write what they show to a CSV file.

It needs an extra that reads pictures, cli or vision, and one that runs the model, such as litert.

$ python examples/folder_to_csv.py accelerate/data/digits_uint8.tflite accelerate/data digits.csv
1 of 1 pictures classified
$ cat digits.csv
file,label,score,error
digit.png,seven,0.996,
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import accelerate
from accelerate.vision import Classifier

PICTURES = {".bmp", ".jpeg", ".jpg", ".png", ".webp"}


def main() -> None:
    """Write a row for each picture: the best class and its score, or why there is none."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    parser.add_argument("table", type=Path, help="the CSV file to write")
    arguments = parser.parse_args()

    try:
        paths = sorted(path for path in arguments.folder.iterdir() if path.suffix.lower() in PICTURES)
        done = 0
        with accelerate.load(arguments.model) as model:
            classify = Classifier(model, max_results=1)  # before there is a table: it may be no classifier
            with arguments.table.open("w", newline="") as file:
                table = csv.writer(file, lineterminator="\n")
                table.writerow(("file", "label", "score", "error"))
                # in order; the next pictures are decoded while the model runs
                for path, found in zip(paths, accelerate.map(classify, paths), strict=True):
                    if isinstance(found, Exception):  # of this picture alone
                        table.writerow((path.name, "", "", found))
                        continue
                    table.writerow((path.name, found[0].label, f"{found[0].score:.3f}", ""))
                    done += 1
    except (accelerate.AccelerateError, OSError) as error:
        sys.exit(str(error))
    print(f"{done} of {len(paths)} pictures classified")


if __name__ == "__main__":
    main()
