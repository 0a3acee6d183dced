# The guard: a shell that reads a list of processes from its standard input, and kills them when the input ends.
#
# Arguments: the mark of the app as NAME=value, and NAME. This text is the command line of the guard, so it must not
# contain the name of the program: `pkill -9 -f NAME` must not kill the guard as well.
#
# A line of input is `+ ID TARGET START` (add an entry), `- ID` (remove it), or `alive` (the app is still running).
# TARGET is for kill(1): a pid, or minus a group. START is a start time from /proc/PID/stat, 0 if unknown. An entry for
# an output has the target `output`. Its ID is p and the inode of a pipe, or t and the number of a terminal, then _ and
# a number that makes it unique. A process that started before START does not count as a holder of the output.
#
# /proc/PID/stat: the fields after the name begin with the third one. So the 22nd, the start time, is ${20}.

trap '' HUP INT QUIT PIPE ALRM TERM USR1 USR2 TSTP TTIN TTOU
set -f
mark=$1 name=$2 list= count=0 gone=,deleted
while read -r verb id target start; do
    case $verb in
    +)
        eval "entry$id='$target $start'"
        list="$list $id" count=$((count + 1))
        # Drop removed entries from the list now and then.
        if [ $count -gt 500 ]; then
            kept= count=0
            for id in $list; do
                eval "entry=\$entry$id"
                [ -z "$entry" ] || kept="$kept $id"
            done
            list=$kept
        fi ;;
    -) unset "entry$id" ;;
    alive) gone= ;;
    esac
done

# The kernel closes this pipe a moment before the app has ended. Wait for the end: it closes the terminals of the
# children, whose names then end in `(deleted)`. Their numbers may soon be those of new terminals.
scans=0
while [ -n "$gone" ] && [ $scans -lt 50 ] && status= && read -r status </proc/$PPID/stat; do
    case ${status##*) } in [ZX]*|'') break ;; esac
    scans=$((scans + 1))
    sleep 0.02
done

targets= outputs=
for id in $list; do
    eval "set -- \$entry$id"
    [ $# = 2 ] || continue
    target=$1 start=$2 status=
    case $id in
    p*) id=${id#p} outputs="$outputs pipe:[${id%_*}]@$start" ; continue ;;
    t*) id=${id#t} outputs="$outputs /dev/pts/${id%_*}$gone@$start" ; continue ;;
    esac
    # Leave out a pid that belongs to another process by now.
    read -r status </proc/$id/stat
    set -- ${status##*) }
    [ $start = 0 ] || [ -z "${20}" ] || [ "${20}" = $start ] || continue
    targets="$targets $target"
done
if ! [ -r /proc/self/environ ]; then
    [ -z "$targets" ] || kill -s KILL -- $targets
    exit 0
fi
set +f

# List the environment files in /proc that contain one of two strings. The grep of busybox stops at the first NUL byte;
# `read` drops these bytes, but is slow.
if printf 'a\0b' | grep -qF b; then
    having() { grep -lsF -e "$1" -e "$2" /proc/[0-9]*/environ; }
else
    having() {
        for file in /proc/[0-9]*/environ; do
            while IFS= read -r line || [ -n "$line" ]; do
                case $line in *"$1"*|*"$2"*) echo "$file" ;; esac
            done <"$file"
        done
    }
fi

# List the processes that have one of the outputs open, except for the app, which may still run, and for nested guards,
# which end by themselves.
holders() {
    ls -l /proc/[0-9]*/fd | sed 's/ (deleted)$/,deleted/' | awk -v outputs="$outputs" '
        BEGIN {
            n = split(outputs, words, " ")
            for (i = 1; i <= n; i++) { split(words[i], parts, "@"); after[parts[1]] = parts[2] }
        }
        /^\/proc\// { split($0, parts, "/"); pid = parts[3] }
        (i = index($0, " -> ")) && (substr($0, i + 4) in after) { print pid, after[substr($0, i + 4)] }
    ' | sort -u | while read -r pid after; do
        case " $exempt " in *[!0-9]"$pid"[!0-9]*) continue ;; esac
        status=
        read -r status </proc/$pid/stat
        set -- ${status##*) }
        [ "${20:-0}" -lt $after ] || echo $pid
    done
}

# List the descendants of the targets that are in none of the groups among the targets.
descendants() {
    cat /proc/[0-9]*/stat | awk -v targets="$targets" -v exempt="$exempt" '
        BEGIN {
            n = split(targets, words, " ")
            for (i = 1; i <= n; i++) if (words[i] < 0) group[-words[i]] = 1; else found[words[i]] = 1
            n = split(exempt, words, /[^0-9]+/)
            for (i = 1; i <= n; i++) left_alone[words[i]] = 1
        }
        {
            pid = $1 + 0
            while ((i = index($0, ") ")) > 0) $0 = substr($0, i + 2)
            parent[pid] = $2
            if ($3 in group) found[pid] = 1
        }
        END {
            do {
                more = 0
                for (pid in parent) if (!(pid in found) && !(pid in left_alone) && (parent[pid] in found)) {
                    found[pid] = more = 1
                    print pid
                }
            } while (more)
        }
    '
}

exempt="$$ $PPID "$(echo $(having "$name=guard" "$name=detached/"))
[ -z "$outputs" ] || targets="$targets $(echo $(holders))"
if [ -n "${targets# }" ]; then
    # A stopped process cannot fork while the others are found.
    kill -s STOP -- $targets
    scans=0
    while [ $scans -lt 20 ] && more=$(echo $(descendants)) && [ -n "$more" ]; do
        kill -s STOP -- $more
        targets="$targets $more" scans=$((scans + 1))
    done
    kill -s KILL -- $targets
fi

# Kill the processes with the mark, until five scans in a row find none: a process has no environment during a fork or
# an exec.
quiet=0 scans=0
while [ $quiet -lt 5 ] && [ $scans -lt 200 ]; do
    quiet=$((quiet + 1)) scans=$((scans + 1))
    for file in $(having "$mark" "$mark"); do
        id=${file#/proc/}
        kill -s KILL "${id%/environ}" && quiet=0
    done
    [ -z "$outputs" ] || for id in $(holders); do kill -s KILL $id && quiet=0; done
    sleep 0.04
done
