"""Names and texts of a bundle's files: what to install, how to run, how to run at each start."""

import shlex

from deploy.requirements import LITERT, MIN_LITERT, MIN_VERSIONS, TFLITE_RUNTIME

PROGRAM, MODEL, SUMS = "classify.pyz", "model.tflite", "SHA256SUMS"
NAMES = (MODEL, "labels.txt", PROGRAM, "requirements.txt", "README.md", "classify.service", SUMS)
_PACKAGES = "\n".join(f"{name}>={version}" for name, version in MIN_VERSIONS.items())
_32_BIT = "platform_machine in 'armv7l armv8l' and python_version < '3.12'"

REQUIREMENTS = f"""\
# What classify.pyz needs. Debian's python3-click, python3-numpy and python3-pil will do.
{_PACKAGES}

# HEIC photos, as iPhones take them, need pillow-heif; AVIF photos need pillow>=11.3.
# pillow-heif

# 64-bit systems, such as Raspberry Pi OS 64-bit: Bookworm (Python 3.11), Trixie (Python 3.13).
{LITERT}>={MIN_LITERT}; platform_machine not in 'armv6l armv7l armv8l'

# 32-bit ARM with Python 3.11, such as Raspberry Pi OS 32-bit, Bookworm.
{TFLITE_RUNTIME[0]}; {_32_BIT}
{TFLITE_RUNTIME[1]}; {_32_BIT}

# 32-bit ARM with a later Python, such as Raspberry Pi OS 32-bit, Trixie (Python 3.13), and ARMv6
# (Raspberry Pi 1 and Zero): no TFLite runtime exists. Take a 64-bit system, or Bookworm.
"""

_TITLE = "# An image classifier\n"
_INSTALL = f"""
## Install it on a device

Copy this folder to the device. There, in this folder:

```sh
sudo apt install python3-venv python3-click python3-numpy python3-pil
python3 -m venv --system-site-packages env
env/bin/pip install -r requirements.txt
env/bin/python classify.pyz selftest model.tflite
env/bin/python classify.pyz photo.jpg
```

`selftest` prints PASS if this device computes what the laptop computed.

A 32-bit system on a 64-bit kernel (`getconf LONG_BIT` prints 32, `uname -m` prints aarch64) is one
that pip cannot tell from a 64-bit one. With Python 3.11, replace the third line by

```sh
env/bin/pip install {" ".join(map(shlex.quote, TFLITE_RUNTIME))}
```

On 32-bit ARM with a later Python, and on ARMv6 (Raspberry Pi 1 and Zero), no TFLite runtime exists.

### More

```sh
env/bin/python classify.pyz --help
env/bin/python classify.pyz label --help
env/bin/python classify.pyz photos/ 'more/*.jpg' --top 3 --threshold 0.5 --json
env/bin/python classify.pyz - < photo.jpg
sha256sum --check SHA256SUMS
```

To watch the camera from now on, and after each start of the device (`python3-picamera2` is for the
Pi's own camera, `python3-opencv` for others):

```sh
sudo apt install python3-picamera2 python3-opencv
env/bin/python classify.pyz watch
systemctl --user enable --now "$PWD/classify.service"
sudo loginctl enable-linger "$USER"
journalctl --user --follow --unit classify
```

Its options are in a file beside this folder, which another version of the folder leaves alone:

```sh
echo 'WATCH=--threshold 0.8 --snapshot-dir /var/tmp/seen' > "$PWD.conf"
systemctl --user daemon-reload
systemctl --user restart classify
```
"""


def readme(card: str = "") -> str:
    """Return the README of a bundle: the model's `card` in Markdown, and how to install it."""
    return (card or _TITLE) + _INSTALL


SERVICE = """\
# %Y is the folder that holds this file (systemd 251 or later). Its name may have any characters.
# systemd refuses quotes in the path of a program, so env starts it, and takes [ and \\ in the path
# of the options for a pattern, so they are copied first.
[Unit]
Description=Image classifier

[Service]
WorkingDirectory=%Y
RuntimeDirectory=%N
ExecStartPre=/bin/sh -c 'test ! -e "$$PWD.conf" || cp "$$PWD.conf" "$$RUNTIME_DIRECTORY/options"'
ExecStart=/usr/bin/env env/bin/python classify.pyz watch --model model.tflite $WATCH
Environment=PYTHONUNBUFFERED=1 WATCH=
EnvironmentFile=-%t/%N/options
Restart=on-failure
RestartSec=5
NoNewPrivileges=yes

[Install]
WantedBy=default.target
"""
