"""Prints the names of SGLang's server arguments, one line each: those that take no value
end with a mark. They are read from the source: the server itself does not import without
a GPU's libraries.

    python3 sglang-args.py .../site-packages/sglang/srt/server_args.py
"""

import ast
import sys

for node in ast.walk(ast.parse(open(sys.argv[1]).read())):
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
        names = [a.value for a in node.args if isinstance(a, ast.Constant)]
        keywords = {k.arg: k.value for k in node.keywords}
        action = getattr(keywords.get("action"), "value", "")
        for name in names:
            print(name + (" !" if action in ("store_true", "store_false") else ""))
