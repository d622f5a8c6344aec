# shellcheck shell=bash
# Common to the checks, which source it: the program, the launcher, a tiny data set.
#   APUS=path     another program than .build/release/apus
#   MPIRUN=name   another launcher than mpirun
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
APUS=${APUS:-$root/.build/release/apus}
MPIRUN=${MPIRUN:-mpirun}
if [ ! -x "$APUS" ]; then APUS=$("$root/Scripts/build" | tail -n 1); fi
if [ "$(id -u)" = 0 ]; then export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1; fi
# With more ranks than cores, waiting ranks yield instead of spinning.
export OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_hwloc_base_binding_policy=none
export TERM=dumb

# ranks P COMMAND...: runs a command on P ranks of one thread each.
ranks() {
  local p=$1
  shift
  "$MPIRUN" -n "$p" "$@" </dev/null
}

# tiny_data FOLDER: packs 300 + 100 images of Fashion-MNIST, or of the files in $FASHION.
tiny_data() {
  local source=${FASHION:-/usr/share/datasets/fashion-mnist}/t10k-images-idx3-ubyte.gz
  if [ ! -e "$source" ]; then
    echo "the checks need Fashion-MNIST: install Debian's dataset-fashion-mnist," \
      "or set FASHION to the folder of its files" >&2
    exit 66
  fi
  "$APUS" pack "$source" "$1" --limit 400 --split 25% >/dev/null
}
