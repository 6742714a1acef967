#!/usr/bin/env python3
"""Shows the ratios of a run of tssx-bench beside recorded ones, or records them.

usage: bench_compare.py [--record] RESULTS RECORDED

RESULTS is what tssx-bench --json prints. RECORDED has only what may be compared between machines:
{"machine": {...}, "cells": {"CELL": {"METRIC": times better, ...}, ...}}. Recording keeps the
cells that RESULTS does not have.
"""
import argparse
import json
import os
import sys


def ratios_of(results):
    """{cell: {metric: median of times better}}, without what has no ratio."""
    ratios = {}
    for cell in results["cells"]:
        for metric in cell["metrics"]:
            if metric["times_better"] is not None:
                better = metric["times_better"]["median"]
                ratios.setdefault(cell["name"], {})[metric["name"]] = round(better, 3)
    return ratios


def load(path):
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        return {"machine": {}, "cells": {}}


def number(value):
    """About three digits that matter, as tssx-bench prints them."""
    digits = 0 if value >= 1000 else 1 if value >= 100 else 2 if value >= 0.1 or value == 0 else 4
    return f"{value:.{digits}f}"


def summary(side):
    if side is None:
        return "-"
    return f"{number(side['median'])} ({number(side['lowest'])} to {number(side['highest'])})"


def show(results, recorded):
    line = "{:<38} {:<10} {:<5} {:<32} {:<32} {:<24} {}"
    print(line.format("CELL", "METRIC", "UNIT", results["base"], results["ours"],
                      "TIMES BETTER", "RECORDED").rstrip())
    for cell in results["cells"]:
        for why in ("error", "skipped"):
            if why in cell:
                print(f"{cell['name']:<38} {why}: {cell[why]}")
        for metric in cell["metrics"]:
            known = recorded["cells"].get(cell["name"], {}).get(metric["name"])
            print(line.format(cell["name"], metric["name"], metric["unit"],
                              summary(metric["base"]), summary(metric["ours"]),
                              summary(metric["times_better"]),
                              "-" if known is None else number(known)))


def write(path, document):
    # Whole or not at all.
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2, sort_keys=True)
        file.write("\n")
    os.replace(path + ".new", path)


def main():
    parser = argparse.ArgumentParser(usage="%(prog)s [--record] RESULTS RECORDED")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("results")
    parser.add_argument("recorded")
    arguments = parser.parse_args()
    with open(arguments.results, encoding="utf-8") as file:
        results = json.load(file)
    recorded = load(arguments.recorded)
    show(results, recorded)
    if arguments.record:
        cells = {**recorded["cells"], **ratios_of(results)}
        write(arguments.recorded, {"machine": results["machine"], "cells": cells})
    return 0


if __name__ == "__main__":
    sys.exit(main())
