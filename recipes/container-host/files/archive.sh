# Makes the archive $1 of an image with one program in it, as `docker save` would write it: a layer,
# the configuration that names its digest, and a manifest that names both.
set -eu
busybox() { /usr/bin/busybox "$@"; }

work=$(busybox mktemp -d)
busybox mkdir -p "$work/root/bin" "$work/root/www"
busybox cp /usr/bin/busybox "$work/root/bin/busybox"
echo 'hello: baked, not patched, and served from a container' > "$work/root/www/index.html"
busybox tar -c -f "$work/layer.tar" -C "$work/root" bin www

digest=$(busybox sha256sum "$work/layer.tar")
config='{"architecture":"amd64","os":"linux"'
config="$config,\"config\":{\"Cmd\":[\"/bin/busybox\",\"httpd\",\"-f\",\"-p\",\"8080\",\"-h\",\"/www\"]}"
echo "$config,\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[\"sha256:${digest%% *}\"]}}" > "$work/config.json"
echo '[{"Config":"config.json","RepoTags":["localhost/hello:1"],"Layers":["layer.tar"]}]' > "$work/manifest.json"

busybox tar -c -f "$1.part" -C "$work" manifest.json config.json layer.tar
busybox sync
busybox mv "$1.part" "$1"
