#!/usr/bin/env bash
# A second software Vulkan driver, SwiftShader, out of Debian's chromium-common: unpacked into a folder, not installed.
# Prints the path of its manifest, for VK_DRIVER_FILES.
set -euo pipefail
folder=${1:?usage: fetch_swiftshader.sh FOLDER}
manifest=$folder/usr/lib/chromium/vk_swiftshader_icd.json
if [ ! -e "$manifest" ]; then
  mkdir -p "$folder"
  (cd "$folder" && apt-get download -qq chromium-common >&2 && dpkg -x chromium-common*.deb . && rm chromium-common*.deb)
fi
realpath "$manifest"
