#!/usr/bin/env bash
# Prints the stacks that the change from one commit to another touches, as a JSON list: the program touches all of them,
# Pulumi.<stack>.yaml its own. What the program does not run touches none; deploy.yml ignores the same paths.
set -euo pipefail
files=$(git diff --name-only "$1" "$2" -- . ':!.ci' ':!.github' ':!bench' ':!docs' ':!sandbox' ':!tests' ':!tools' ':!*.md')
program=$(grep -Ev '^Pulumi\.[^.]+\.yaml$' <<< "$files" || true)
stacks=()
for file in Pulumi.*.yaml; do
    if [ -n "$program" ] || grep -qxF "$file" <<< "$files"; then
        stack=${file#Pulumi.}
        stacks+=("\"${stack%.yaml}\"")
    fi
done
IFS=,
echo "[${stacks[*]-}]"
