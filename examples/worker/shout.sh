# A worker needs no library: the id comes first in its line, and an answer is one printf.
while IFS= read -r line; do
    id=${line#'{"id":'}
    id=${id%%,*}
    text=${line#*'"text":"'}
    text=${text%%'"'*}
    printf '{"id":%s,"output":"%s!"}\n' "$id" "$(printf %s "$text" | tr '[:lower:]' '[:upper:]')"
done
