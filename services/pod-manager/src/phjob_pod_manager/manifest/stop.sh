# Sends a signal to the main program of the command. The second half of process 1; start.sh is the other.
#
# A shell that waits for a process and does not catch the signal passes it on to that process. The first
# processes below such shells are candidates. Those that catch the signal are the main program; if none does,
# it is the first of them, which may write to others through a pipe. Nobody else receives the signal.
#
# On SIGTERM, the shells above the main program are stopped by SIGSTOP until it has ended. Otherwise they would
# go on with the next line of the script. Then they end by SIGTERM.
#
# Only /proc, the shell, and cat, id, sleep, sort and tr are used. /proc/PID/stat has the signals that a process
# ignores and catches as bits: SIGINT 0x2, SIGQUIT 0x4, SIGTERM 0x4000, SIGXCPU 0x800000 (proc_pid_stat(5)).

# Reads all processes once: one line each, `PID (NAME) STATE PARENT ...`.
look() {
  set +f
  stats=$(cat /proc/[0-9]*/stat)
  set -f
}

# Prints the live children of a process, the oldest first, each with the signals that it ignores and catches.
children() {
  IFS='
'
  for line in $stats; do
    case ${line##*) } in
      [!XZ]" $1 "*)
        pid=${line%% *}
        unset IFS
        set -- "$1" ${line##*) }
        printf '%020d %010d %d %d %d\n' "${21}" "$pid" "$pid" "${32}" "${33}"
        ;;
    esac
  done | sort | while IFS=' ' read -r _ _ child; do echo "$child"; done
}

# Sets the signals that a process ignores and catches.
masks() {
  ignored=0 caught=0
  if read -r shown <"/proc/$1/stat"; then
    set -- ${shown##*) }
    ignored=${31} caught=${32}
  fi
}

# Tells if a process is a shell.
is_shell() {
  name=$(tr '\0' '\n' <"/proc/$1/cmdline" | { read -r name; echo "$name"; })
  name=${name##*/}
  case ${name#-} in
    sh | bash | rbash | dash | ash | busybox | zsh | ksh | ksh93 | mksh) true ;;
    *) false ;;
  esac
}

# Tells if a process passes the signal on, and sets kids to those that it goes to.
passes_on() {
  is_shell "$1" || return 1
  masks "$1"
  mine=$caught parent=$ignored kids= background=
  set -- $(children "$1")
  while [ "$#" -gt 0 ]; do
    # A shell makes what it starts by `&` ignore SIGINT and SIGQUIT.
    if [ $((parent & 2)) = 0 ] && [ $(($2 & 2)) != 0 ] && [ $((($2 | $3) & 4)) != 0 ]; then
      background="$background $1"
    else
      kids="$kids $1"
    fi
    shift 3
  done
  # Bash catches all signals itself if it has a trap for EXIT, and most shells SIGINT while they wait. A trap
  # could run only after a process in the foreground has ended, so that this process needs the signal.
  case $bit in 0x2) own=1 ;; *) own=$((mine & 0x800000)) ;; esac
  if [ $((mine & bit)) != 0 ]; then
    if [ "$own" = 0 ]; then return 1; fi
  elif ! [ "$kids" ]; then
    kids=$background background=
  fi
  [ "$kids" ]
}

# Prints the candidates below a process, the oldest first: each with the shells above it, the innermost first.
# Prints a process in the background, if others are in the foreground, with `-` before it.
candidates() {
  if passes_on "$1"; then
    for kid in $background; do echo "- $kid"; done
    for kid in $kids; do candidates "$kid" "$1 $2"; done
  else
    echo "$1 $2"
  fi
}

# Sets targets, the main program, and shells, the shells above it, each before those above it.
choose() {
  look
  targets= shells= first= source=
  found=$(candidates "$phjob_main")
  IFS='
'
  for line in $found; do
    unset IFS
    set -- $line
    if [ "$1" = - ]; then continue; fi
    masks "$1"
    if [ $((caught & bit)) != 0 ]; then add "$@"; fi
    first=${first:-$line}
    # A process that reads from a pipe may have the task to write what the main program has printed.
    if ! [ -p "/proc/$1/fd/0" ]; then source=${source:-$line}; fi
  done
  unset IFS
  if ! [ "$targets" ]; then add ${source:-$first}; fi
}

# Adds a target, and the shells above it.
add() {
  targets="$targets $1"
  shift
  for shell; do
    # A shell above two targets comes after the shells above each.
    shells="$shells "
    case $shells in *" $shell "*) shells="${shells%% $shell *} ${shells#* $shell }" ;; esac
    shells="$shells $shell"
  done
}

# Sets readers, which are younger than the main program, as the next process of a pipe is, and helpers, all
# others that are not signalled.
sort_others() {
  readers= helpers= reached=
  IFS='
'
  for line in $found; do
    unset IFS
    set -- $line
    case "$targets " in *" $1 "*) reached=1 ;; esac
    for pid; do
      case "$targets$shells - " in
        *" $pid "*) ;;
        *) if [ "$reached" ] && [ "$1" != - ]; then readers="$readers $pid"; else helpers="$helpers $pid"; fi ;;
      esac
    done
  done
  unset IFS
}

# Tells if one of the processes is alive.
alive() {
  for pid; do
    read -r line <"/proc/$pid/stat" || continue
    case ${line##*) } in [!XZ]*) return 0 ;; esac
  done
  return 1
}

pause() {
  sleep 0.1 || sleep 1
}

# Waits up to a second for the end of processes, for example of one that reads the last output of a pipe.
drain() {
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    alive "$@" || return 0
    pause
  done
}

# Prints the exit code of a process that has ended, if the kernel shows it: it does to the process's user.
code_of() {
  uid=
  while read -r key value _; do
    case $key in Uid:) uid=$value ;; esac
  done <"/proc/$1/status"
  for as in '' "$phjob_as"; do
    [ "$uid" = "$($as id -u)" ] || continue
    line=$($as cat "/proc/$1/stat")
    set -- ${line##*) }
    case ${50} in
      '') ;;
      *) if [ $((${50} & 127)) = 0 ]; then echo $((${50} >> 8)); else echo $((128 + (${50} & 127))); fi ;;
    esac
    return
  done
}

# Ends a shell that is stopped.
end() {
  kill -TERM "$1"
  kill -CONT "$1"
  while alive "$1"; do pause; done
}

interrupt() {
  trap '' HUP INT QUIT TERM
  bit=0x2
  choose
  kill -INT $targets
}

stop() {
  trap '' HUP INT QUIT TERM
  bit=0x4000 stopped=' '
  # A shell may go on, or start another process, until it is stopped.
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    choose
    again=
    for shell in $shells; do
      case $stopped in *" $shell "*) ;; *) kill -STOP "$shell" && stopped="$stopped$shell " again=1 ;; esac
    done
    [ "$again" ] || break
  done
  sort_others
  kill -TERM $targets
  for shell in $stopped; do
    case "$shells " in *" $shell "*) ;; *) kill -CONT "$shell" ;; esac
  done
  [ "$shells" ] || exit 143
  while alive $targets; do pause; done
  code=
  for pid in $targets; do
    case $code in '' | 0) code=$(code_of "$pid") ;; esac
  done
  set -- $shells
  while [ "$#" -gt 1 ]; do
    end "$1"
    shift
  done
  drain $readers
  end "$phjob_main"
  drain $readers $helpers
  exit "${code:-143}"
}
