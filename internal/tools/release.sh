#!/bin/sh
# Builds all that a release has into dist/: archives for Linux and macOS, Debian
# packages, container images, bills of materials, checksums. Two runs on one commit
# give the same bytes: every time in them is the commit's.
#
# usage: [TARGETS="linux/amd64 …"] [DIST=FOLDER] release.sh VERSION COMMIT
set -eu

version=$1 commit=$2
case $version in
v[0-9]*.[0-9]*.[0-9]*) ;;
*) # No tag leads here: a build to try, older than every release to a package manager.
	version=v0.0.0-git.$version
	;;
esac
GO=${GO:-go}
BUILT=$(git log -1 --format=%ct)
ISO=$(TZ=UTC0 git log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ)
SOURCE_DATE_EPOCH=$BUILT
LC_ALL=C TZ=UTC
export SOURCE_DATE_EPOCH LC_ALL TZ
tools=$PWD/bin/release-tools

(cd internal/tools/release && GOWORK=off "$GO" build -o "$tools/" github.com/goreleaser/nfpm/v2/cmd/nfpm github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod ./image)
dist=${DIST:-dist}
rm -rf "$dist"
mkdir -p "$dist/build"

for target in ${TARGETS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64}; do
	os=${target%/*} arch=${target#*/}
	name=cairn_${version#v}_${os}_${arch}
	folder=$dist/build/$name
	mkdir -p "$folder"
	GOWORK=off CGO_ENABLED=0 GOOS=$os GOARCH=$arch "$GO" build -trimpath -buildvcs=false \
		-ldflags "-s -w -buildid= -X main.version=$version -X main.commit=$commit" -o "$folder/cairn" .
	cp README.md LICENSE CHANGELOG.md "$folder/"
	chmod 0755 "$folder" "$folder/cairn"
	chmod 0644 "$folder/README.md" "$folder/LICENSE" "$folder/CHANGELOG.md"
	tar -C "$dist/build" --sort=name --format=ustar --owner=0 --group=0 --numeric-owner --mtime="@$BUILT" -cf - "$name" |
		gzip -n -9 >"$dist/$name.tar.gz"
	"$tools/cyclonedx-gomod" bin -json -noserial -notimestamp -version "$version" -output "$dist/$name.sbom.json" "$folder/cairn"
	[ "$os" = linux ] || continue
	# nfpm fills in few of its fields from the environment.
	sed -e "s|\${ARCH}|$arch|; s|\${VERSION}|${version#v}|; s|\${BUILT}|$ISO|; s|\${BINARY}|$folder/cairn|" deploy/debian/nfpm.yaml >"$dist/build/nfpm.yaml"
	"$tools/nfpm" package -f "$dist/build/nfpm.yaml" -p deb -t "$dist/cairn_${version#v}_$arch.deb"
	"$tools/image" -binary "$folder/cairn" -arch "$arch" -version "${version#v}" -commit "$commit" -built "$BUILT" -out "$dist/${name}_image.tar"
done

rm -rf "$dist/build"
(cd "$dist" && sha256sum -- * >SHA256SUMS)
cat "$dist/SHA256SUMS"
