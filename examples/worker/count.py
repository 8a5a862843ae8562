"""A worker: what is costly (imports, connections, models) comes before the loop, once; then a line in, a line out."""
import json
import sys

for line in sys.stdin:  # ends when triggerd closes it
    request = json.loads(line)
    answer = {"id": request["id"]}
    try:
        print("counting for", request["run_id"], file=sys.stderr, flush=True)  # kept as the step's stderr
        text = request["inputs"]["text"]
        if not text:
            raise ValueError("there is nothing to count")
        answer["output"] = {"words": len(text.split())}
    except Exception as problem:
        answer["error"] = str(problem)
    print(json.dumps(answer), flush=True)  # nothing else goes to standard output
