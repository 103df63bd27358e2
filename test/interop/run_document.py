"""Runs the blocks of a document and prints, as JSON, what each printed. Standard input: a list of {section, language, code}. Blocks of a section share their names, like a notebook's cells."""
import ast
import contextlib
import io
import json
import sys

import duckdb
import pandas
import polars

pandas.set_option("display.width", 160)
pandas.set_option("display.max_columns", 12)
polars.Config.set_tbl_width_chars(160)
LONGEST = 300


def run(code, names):
    """The last expression is shown, as an interpreter would."""
    tree = ast.parse(code)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<block>", "exec"), names)
    if last is not None:
        value = eval(compile(ast.Expression(last.value), "<block>", "eval"), names)
        if value is not None:
            print(value if isinstance(value, str) else repr(value))


def outcome(block, names):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            if block["language"] == "sql":
                print(names.setdefault("duckdb_of_the_suite", duckdb.connect()).sql(block["code"]))
            else:
                run(block["code"], names)
        except Exception as error:
            text = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            print(text if len(text) <= LONGEST else f"{text[:LONGEST]}…")
    return "\n".join(line.rstrip() for line in printed.getvalue().strip("\n").splitlines())


sections = {}
blocks = json.load(sys.stdin)
outcomes = [outcome(block, sections.setdefault(block["section"], {"__name__": "document"})) for block in blocks]
json.dump(outcomes, sys.stdout)
