"""A worker: a request is a line, and so is its answer. What takes time to load is loaded before the first."""
import json
import os
import sys

from PIL import Image  # Debian: python3-pil

for line in sys.stdin:
    request = json.loads(line)
    picture = request["inputs"]["picture"]
    try:
        made = os.path.join(os.path.dirname(os.path.dirname(picture)), "thumbnails", os.path.basename(picture))
        os.makedirs(os.path.dirname(made), exist_ok=True)
        with Image.open(picture) as image:
            image.thumbnail((64, 64))
            image.save(made + ".new", format=image.format)
        os.rename(made + ".new", made)  # nobody sees half of it
        answer = {"id": request["id"], "output": {"made": made, "width": image.width, "height": image.height}}
    except Exception as e:
        answer = {"id": request["id"], "error": f"{os.path.basename(picture)}: {e}"}
    print(json.dumps(answer), flush=True)
