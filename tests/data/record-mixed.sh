#!/bin/sh
# Records mixed.pcapng: real TCP, UDP and ICMP over IPv4 between three hosts on one Ethernet.
#
#   sudo ./record-mixed.sh [OUTPUT.pcapng]
#
# Needs Debian's iproute2, iputils-ping, ethtool, curl, python3, bind9-dnsutils and wireshark-common (dumpcap).
# The hosts are network namespaces joined by a bridge in a fourth. Every offload of the veth pairs is off,
# so the packets are what a wire would carry: at most 1500 bytes, with correct checksums.
set -eu

out=$(realpath -m "${1:-$(dirname "$0")/mixed.pcapng}")
tmp=$(mktemp -d)
ns=nicrec$$
pids=

cleanup() {
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    for n in 1 2 3 sw; do ip netns del "$ns-$n" 2>/dev/null || true; done
    rm -rf "$tmp"
}
trap cleanup EXIT

in_host() { h=$1; shift; ip netns exec "$ns-$h" "$@"; }

# The switch: its own namespace, so that nothing of this machine's traffic gets in.
ip netns add "$ns-sw"
in_host sw sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1
in_host sw ip link add wire type bridge
in_host sw ip link set wire up
for n in 1 2 3; do
    ip netns add "$ns-$n"
    in_host $n sysctl -qw net.ipv6.conf.default.disable_ipv6=1 net.ipv6.conf.all.disable_ipv6=1
    ip link add eth0 netns "$ns-$n" address 02:00:00:00:77:0$n type veth peer name port$n netns "$ns-sw"
    in_host $n ethtool -K eth0 tx off rx off sg off tso off gso off gro off >/dev/null
    in_host sw ethtool -K port$n tx off rx off sg off tso off gso off gro off >/dev/null
    in_host sw ip link set port$n master wire up
    in_host $n ip link set lo up
    in_host $n ip link set eth0 up
    in_host $n ip addr add 10.77.0.$n/24 broadcast 10.77.0.255 dev eth0
done

# What the hosts serve: a file by HTTP, names by DNS, an echo by UDP.
mkdir "$tmp/www"
seq -f 'line %06.0f of the file that is carried over the wire in this capture' 1 560 >"$tmp/www/file.txt"
cat >"$tmp/dns.py" <<'PY'
"""Answers every A query with 10.77.0.3: a DNS server in twenty lines."""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.77.0.2", 53))
while True:
    query, peer = s.recvfrom(512)
    end = query.index(0, 12) + 5  # the question: name, type, class
    s.sendto(query[:2] + b"\x85\x80\0\1\0\1\0\0\0\0" + query[12:end]
             + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + bytes([10, 77, 0, 3]), peer)
PY
cat >"$tmp/echo.py" <<'PY'
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("10.77.0.3", 7007))
while True:
    data, peer = s.recvfrom(2048)
    s.sendto(data, peer)
PY
cat >"$tmp/talk.py" <<'PY'
"""Every length from 0 that changes ESP's padding, up to a full frame; and one broadcast."""
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(2)
for n in [0, 1, 2, 3, 4, 5, 17, 64, 255, 512, 1023, 1471, 1472]:
    s.sendto(bytes((65 + i % 26) for i in range(n)), ("10.77.0.3", 7007))
    assert len(s.recv(2048)) == n
s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
s.sendto(b"is anybody there?", ("10.77.0.255", 7007))
PY
ip netns exec "$ns-2" python3 -m http.server --bind 10.77.0.2 --directory "$tmp/www" 8080 >/dev/null 2>&1 & pids="$pids $!"
ip netns exec "$ns-2" python3 "$tmp/dns.py" & pids="$pids $!"
ip netns exec "$ns-3" python3 "$tmp/echo.py" & pids="$pids $!"
sleep 2

ip netns exec "$ns-sw" dumpcap -q -i wire -w "$tmp/out.pcapng" >/dev/null 2>&1 & capture=$!
sleep 2
in_host 1 curl -sSf -o "$tmp/got" http://10.77.0.2:8080/file.txt
cmp "$tmp/got" "$tmp/www/file.txt"
for name in ndis.example miniport.example ipsec.example; do
    in_host 1 dig +short +tries=1 @10.77.0.2 "$name" A >/dev/null
done
in_host 1 ping -q -c 4 -i 0.2 10.77.0.3 >/dev/null
in_host 2 ping -q -c 2 -i 0.2 -s 1472 10.77.0.1 >/dev/null
in_host 2 ping -q -c 1 -s 3000 10.77.0.3 >/dev/null # three fragments each way
in_host 2 python3 "$tmp/talk.py"
in_host 3 curl -sSf -o /dev/null http://10.77.0.2:8080/
sleep 1
kill -TERM "$capture"
wait "$capture" || true
mv "$tmp/out.pcapng" "$out"
chmod 644 "$out"
