# Runs as root in a fresh Debian with systemd. /packages contains version 1 and version 2 of the Debian package, and a recording.
dpkg -i /packages/*-1_amd64.deb
test "$(systemctl is-enabled jamjam-echo jamjam-signaling | sort -u)" = disabled
test "$(systemctl is-active jamjam-echo jamjam-signaling | sort -u)" = inactive
systemd-analyze verify jamjam-echo.service jamjam-signaling.service
systemctl start jamjam-echo
jamjam-dev probe --wait-for 10s --max-loss 0%
jamjam-dev send --wav /packages/*.wav --to localhost --max-loss 0%
before=$(systemctl show -P MainPID jamjam-echo)
dpkg -i /packages/*-2_amd64.deb
test "$(systemctl show -P MainPID jamjam-echo)" != "$before"
systemctl is-active jamjam-echo
test "$(systemctl is-active jamjam-signaling)" = inactive
systemctl start jamjam-signaling
until jamjam-dev rooms ws://127.0.0.1:8080; do sleep 1; done
test -z "$(jamjam-dev devices 2>&1 | grep 'built without')"
test -e /usr/share/man/man1/jamjam-dev.1.gz
touch /var/lib/jamjam-echo/recording
dpkg -r jamjam-dev
test -z "$(pgrep -f /usr/bin/jamjam-dev)"
test -e /var/lib/jamjam-echo/recording
dpkg --purge jamjam-dev
test -z "$(find /var/lib /etc -name '*jamjam*')"
