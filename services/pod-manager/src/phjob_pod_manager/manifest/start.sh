# Starts the command's shell and waits for its end. The first half of process 1; stop.sh is the other.
#
# The shell must not be started by `&`, because it would then ignore SIGINT, and so would every program in it.
# Process 1 must not wait for it in the foreground either, because a trap runs only after a foreground process.
# So process 1 starts a process that starts the keeper in the foreground, and the keeper kills it. Process 1
# goes on, and inherits the keeper, which waits for the command's shell and sends its exit code by a FIFO.
#
# phjob_start replaces the process by its arguments; phjob_shell and phjob_run are set.

exec 3>&2
for phjob_fifo in .phjob-fifo /dev/shm/.phjob-fifo /tmp/.phjob-fifo ''; do
  if mkfifo "$phjob_fifo" 2>/dev/null; then break; fi
done
if [ "$phjob_fifo" ]; then
  exec 9<>"$phjob_fifo" 7<"$phjob_fifo" 8>"$phjob_fifo" 9>&-
  rm "$phjob_fifo"
  # Shells report a killed process on their standard error.
  exec 2>/dev/null
  (
    (
      exec 7<&-
      read -r _ _ _ phjob_middle _ </proc/self/stat
      kill -KILL "$phjob_middle"
      # A trap, unlike an ignored signal, is not inherited by the command.
      trap : HUP INT QUIT TERM
      (
        read -r phjob_pid _ </proc/self/stat
        echo "$phjob_pid" >&8
        exec 2>&3 3>&- 8>&-
        phjob_start "$phjob_shell" -c "$phjob_run" phjob "$@"
      )
      echo "$?" >&8
    )
    :
  )
  exec 8>&-
  read -r phjob_main <&7
  (
    trap '' HUP INT QUIT TERM
    # The keeper's end of the FIFO is closed without an exit code if somebody has killed it.
    read -r phjob_code <&7 || phjob_code=137
    exit "$phjob_code"
  ) &
  phjob_child=$!
  exec 7<&-
else
  # Without a FIFO, SIGINT is ignored in the command, and everything else is the same.
  exec 2>/dev/null
  phjob_start "$phjob_shell" -c "$phjob_run" phjob "$@" 2>&3 3>&- &
  phjob_child=$! phjob_main=$!
fi
set --

phjob_stopper= phjob_got=
trap 'phjob_got=1; [ "$phjob_stopper" ] || { stop & phjob_stopper=$!; }' TERM
trap 'phjob_got=1; interrupt &' INT
# A signal interrupts `wait`.
wait_for() {
  while phjob_got=; wait "$1"; phjob_code=$?; [ "$phjob_got" ]; do :; done
}
wait_for "$phjob_child"
# If the stopper has ended the command's shell by SIGTERM, it knows the exit code of the main program.
if [ "$phjob_code" = 143 ] && [ "$phjob_stopper" ]; then wait_for "$phjob_stopper"; fi
exit "$phjob_code"
