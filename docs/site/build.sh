#!/bin/sh
# Builds the site of the documents into bin/site/html. The pages stay where people read
# them in the repository; here they are put side by side, and their links with them.
#
# It needs bin/cairn.
#
# usage: docs/site/build.sh
set -eu

out=bin/site
pages=$out/pages
rm -rf "$out"
mkdir -p "$pages"

put() { # put FILE PAGE
	[ -e "$1" ] || return 0
	sed -E \
		-e 's#\]\((\.\./)*(docs/)?(sending|reading|fences|qgis|operating|clustering|getting-started|scale)\.md#](\3.md#g' \
		-e 's#\]\((\.\./)*SECURITY\.md#](security.md#g' \
		-e 's#\]\((\.\./)*DESIGN\.md#](architecture.md#g' \
		-e 's#\]\((\.\./)*CHANGELOG\.md#](changelog.md#g' \
		-e 's#\]\((\.\./)*CONTRIBUTING\.md#](contributing.md#g' \
		-e 's#\]\((\.\./)*CODE_OF_CONDUCT\.md#](code-of-conduct.md#g' \
		-e 's#\]\((\.\./)*loadtest/README\.md#](load-tool.md#g' \
		-e 's#\]\((\.\./)*deploy/README\.md#](deploying.md#g' \
		-e 's#\]\((\.\./)*(deploy/)?microk8s\.md#](microk8s.md#g' \
		-e 's#\]\((\.\./)*README\.md#](index.md#g' \
		-e 's#\]\((\.\./)*LICENSE\)#](LICENSE.txt)#g' \
		-e 's#\]\((\.\./)*docs/([^):]+\.png)#](\2#g' \
		-e 's#\]\((\.\./)*deploy/monitoring/([a-z.]+)#](\2#g' \
		"$1" >"$pages/$2"
}

for page in docs/*.md; do put "$page" "$(basename "$page")"; done
put README.md index.md
put SECURITY.md security.md
put DESIGN.md architecture.md
put CHANGELOG.md changelog.md
put CONTRIBUTING.md contributing.md
put CODE_OF_CONDUCT.md code-of-conduct.md
put deploy/README.md deploying.md
put deploy/microk8s.md microk8s.md
put loadtest/README.md load-tool.md
cp LICENSE "$pages/LICENSE.txt"
cp deploy/monitoring/* "$pages/"
bin/cairn openapi >"$pages/openapi.json"
for picture in docs/*.png; do [ ! -e "$picture" ] || cp "$picture" "$pages/"; done
python3 docs/site/api.py "$pages/openapi.json" >"$pages/api.md"

[ -x bin/site-tools/bin/mkdocs ] || {
	python3 -m venv bin/site-tools
	bin/site-tools/bin/pip install --quiet --disable-pip-version-check --requirement docs/site/requirements.txt
}
cp docs/site/mkdocs.yml "$out/mkdocs.yml"
NO_MKDOCS_2_WARNING=1 bin/site-tools/bin/mkdocs build --quiet --config-file "$out/mkdocs.yml"
echo "the documents are in $out/html/index.html"
