#include "parallel/tensor/collectives.h"

#include <ATen/ops/empty.h>

#include <vector>

#include "cluster/base/logging.h"
#include "parallel/engine/dtypes.h"
#include "parallel/tensor/comm_error.h"

namespace weft {
namespace {

void WaitOrThrow(const WorkPtr& work) {
  const Status status = work->Wait();
  if (!status.ok()) throw CommError(status.WithContext(work->name()));
}

std::vector<int64_t> WithRows(const at::Tensor& x, int64_t rows) {
  std::vector<int64_t> sizes = x.sizes().vec();
  sizes[0] = rows;
  return sizes;
}

int64_t RowElements(const at::Tensor& x) {
  int64_t n = 1;
  for (const int64_t size : x.sizes().slice(1)) n *= size;
  return n;
}

at::Tensor Reduce(const at::Tensor& x, ReduceOp op, const TensorAxis& axis,
                  const std::string& name) {
  at::Tensor sum = x.clone(at::MemoryFormat::Contiguous);
  WaitOrThrow(axis.comm->AllReduce(sum.data_ptr(), static_cast<size_t>(sum.numel()),
                                   ToDType(sum.scalar_type()), op, axis.Op(name)));
  return sum;
}

// Rows of every rank in equal places of `most` rows, for collectives that want equal counts.
int64_t MostRows(int64_t rows, const TensorAxis& axis) {
  return EvenPart(rows, axis.size, 0).length;
}

}  // namespace

at::Tensor SumOverTensor(const at::Tensor& x, const TensorAxis& axis, const std::string& name) {
  return axis.size == 1 ? x : Reduce(x, ReduceOp::kSum, axis, name);
}

at::Tensor MaxOverTensor(const at::Tensor& x, const TensorAxis& axis, const std::string& name) {
  return axis.size == 1 ? x : Reduce(x, ReduceOp::kMax, axis, name);
}

at::Tensor AllRowsOfOwn(const at::Tensor& own, int64_t rows, const TensorAxis& axis,
                        const std::string& name) {
  if (axis.size == 1) return own;
  WEFT_CHECK_EQ(own.size(0), OwnRows(rows, axis).length) << name << ": own rows of " << rows;
  const int64_t most = MostRows(rows, axis);
  at::Tensor places = at::empty(WithRows(own, axis.size * most), own.options());
  places.narrow(0, axis.rank * most, own.size(0)).copy_(own);
  if (own.size(0) < most) places.narrow(0, axis.rank * most + own.size(0), 1).zero_();
  const int64_t count = most * RowElements(own);
  char* const base = static_cast<char*>(places.data_ptr());
  const auto place_bytes = static_cast<size_t>(count) * places.element_size();
  WaitOrThrow(axis.comm->AllGather(base + static_cast<size_t>(axis.rank) * place_bytes, base,
                                   static_cast<size_t>(count), ToDType(own.scalar_type()),
                                   axis.Op(name)));
  if (rows == axis.size * most) return places;
  at::Tensor all = at::empty(WithRows(own, rows), own.options());
  for (int rank = 0; rank < axis.size; ++rank) {
    const IndexRange range = EvenPart(rows, axis.size, rank);
    all.narrow(0, range.offset, range.length).copy_(places.narrow(0, rank * most, range.length));
  }
  return all;
}

at::Tensor OwnRowsOfSum(const at::Tensor& x, const TensorAxis& axis, const std::string& name) {
  if (axis.size == 1) return x;
  const int64_t rows = x.size(0);
  const int64_t most = MostRows(rows, axis);
  at::Tensor places = x.contiguous();
  if (rows != axis.size * most) {
    places = at::empty(WithRows(x, axis.size * most), x.options());
    for (int rank = 0; rank < axis.size; ++rank) {
      const IndexRange range = EvenPart(rows, axis.size, rank);
      places.narrow(0, rank * most, range.length).copy_(x.narrow(0, range.offset, range.length));
      if (range.length < most) places.narrow(0, rank * most + range.length, 1).zero_();
    }
  }
  at::Tensor own = at::empty(WithRows(x, most), x.options());
  WaitOrThrow(axis.comm->ReduceScatter(places.const_data_ptr(), own.data_ptr(),
                                       static_cast<size_t>(most * RowElements(x)),
                                       ToDType(x.scalar_type()), ReduceOp::kSum, axis.Op(name)));
  return own.narrow(0, 0, OwnRows(rows, axis).length);
}

at::Tensor OwnRowsOf(const at::Tensor& x, const TensorAxis& axis) {
  if (axis.size == 1) return x;
  const IndexRange range = OwnRows(x.size(0), axis);
  return x.narrow(0, range.offset, range.length).clone(at::MemoryFormat::Contiguous);
}

}  // namespace weft
