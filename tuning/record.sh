# What apply and undo share: the record of how things were, and the one way to change them.
# Sourced, never run. Nothing is changed here that was not recorded before.
#
# The record is a text file, a line for each change: kind, place and former value, with tabs between.
#   boot      -       ID       the boot in which the lines below were written; what is set at run time ends with it
#   file      PLACE   VALUE    a file of the kernel
#   channels  NIC     COUNT    queues of an interface
#   created   PLACE   -        a file that was not there

root=
state=
dry=
failures=0

complain() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
}

fail() {
    complain "$@"
    exit 1
}

usage_error() {
    complain "$@; see --help"
    exit 2
}

say() {
    printf '%s%s\n' "${dry:+would }" "$*"
}

# Below another root, its own ethtool is used: that of this host would change this host.
nic_tool() {
    "${root:+$root/}ethtool" "$@"
}

boot_id() {
    cat "$root/proc/sys/kernel/random/boot_id" 2>/dev/null || echo unknown
}

may_change() {
    if [ -z "$dry" ] && [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
        fail "only root can change this; --dry-run shows what would be done"
    fi
}

# Begins a record, or goes on with one. After a restart of the host, only files that were created are still there.
open_record() {
    [ -z "$dry" ] || return 0
    local boot
    boot=$(boot_id)
    mkdir -p "${state%/*}"
    if [ -e "$state" ] && [ "$(recorded_boot)" != "$boot" ]; then
        grep $'^created\t' "$state" >"$state.new" || true
        mv "$state.new" "$state"
    fi
    if [ ! -s "$state" ] || [ -z "$(recorded_boot)" ]; then
        { printf 'boot\t-\t%s\n' "$boot"; cat "$state" 2>/dev/null || true; } >"$state.new"
        mv "$state.new" "$state"
    fi
}

recorded_boot() {
    sed -n $'s/^boot\t-\t//p' "$state" 2>/dev/null | head -n 1
}

# The first value that was found is the one to go back to, however often apply is run.
is_recorded() {
    cut -f 1,2 "$state" 2>/dev/null | grep -qxF "$1"$'\t'"$2"
}

# Changes something: change KIND PLACE OLD NEW COMMAND...
change() {
    local kind=$1 place=$2 old=$3 new=$4 is_new=
    shift 4
    say "set $place: ${old:--} -> $new"
    [ -z "$dry" ] || return 0
    if ! is_recorded "$kind" "$place"; then
        printf '%s\t%s\t%s\n' "$kind" "$place" "$old" >>"$state"
        is_new=1
    fi
    if ! "$@"; then
        complain "could not set $place to $new; it stays as it was"
        [ -z "$is_new" ] || sed -i '$d' "$state"
        failures=1
    fi
}

write_file() {
    { printf '%s\n' "$2" >"$root$1"; } 2>/dev/null
}

# A value as it can be compared: the kernel writes tabs, and masks with zeros in front.
plain() {
    local text
    text=$(printf '%s' "$2" | tr -s '[:space:]' ' ')
    case $1 in
    *_cpus) sed 's/^[0,]*//' <<<"$text" ;;
    *) printf '%s' "$text" ;;
    esac
}

set_file() {
    local place=$1 new=$2 old
    if ! old=$(cat "$root$place" 2>/dev/null); then
        complain "there is no $place that can be read"
        failures=1
    elif [ "$(plain "$place" "$old")" = "$(plain "$place" "$new")" ]; then
        echo "$place is $old already"
    else
        change file "$place" "$old" "$new" write_file "$place" "$new"
    fi
}

set_channels() {
    nic_tool -L "$1" combined "$2"
}
