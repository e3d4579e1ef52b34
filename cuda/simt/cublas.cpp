#include <cublas_v2.h>

#include <type_traits>

// Before the macros of cublas.h: our functions must be what NVIDIA declares.
namespace {
using Create = decltype(::cublasCreate_v2);
using Destroy = decltype(::cublasDestroy_v2);
using SetStream = decltype(::cublasSetStream_v2);
using GetStream = decltype(::cublasGetStream_v2);
using SetWorkspace = decltype(::cublasSetWorkspace_v2);
using SetMathMode = decltype(::cublasSetMathMode);
using GetMathMode = decltype(::cublasGetMathMode);
using Sgemm = decltype(::cublasSgemm_v2);
using SgemmStridedBatched = decltype(::cublasSgemmStridedBatched);
}  // namespace

#include "cuda/simt/cublas.h"

#include <cblas.h>
#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <map>
#include <memory>
#include <string>

#include "cuda/simt/memory.h"
#include "cuda/simt/stream.h"
#include "cuda/simt/tsan.h"

#if SIMT_WITH_TSAN
extern "C" void __tsan_read_range(void* p, unsigned long bytes);
extern "C" void __tsan_write_range(void* p, unsigned long bytes);
#endif

namespace simt {

static_assert(std::is_same_v<decltype(blas_create), Create> && std::is_same_v<decltype(blas_destroy), Destroy>);
static_assert(std::is_same_v<decltype(blas_set_stream), SetStream> &&
              std::is_same_v<decltype(blas_get_stream), GetStream>);
static_assert(std::is_same_v<decltype(blas_set_workspace), SetWorkspace>);
static_assert(std::is_same_v<decltype(blas_set_math_mode), SetMathMode> &&
              std::is_same_v<decltype(blas_get_math_mode), GetMathMode>);
static_assert(std::is_same_v<decltype(blas_sgemm), Sgemm>);
static_assert(std::is_same_v<decltype(blas_sgemm_strided_batched), SgemmStridedBatched>);

namespace {

struct Handle {
  cudaStream_t stream = nullptr;
  cublasMath_t mode = CUBLAS_DEFAULT_MATH;
};

thread_local std::string explanation;  // of the last status that was not success

cublasStatus_t refuse(cublasStatus_t status, const std::string& text) {
  explanation = text;
  std::fprintf(stderr, "%s\n", text.c_str());  // many callers only look whether it is success
  return status;
}

std::map<cublasHandle_t, std::unique_ptr<Handle>>& handles() {
  static auto* all = new std::map<cublasHandle_t, std::unique_ptr<Handle>>;
  return *all;
}

Handle* find(cublasHandle_t handle) {
  const auto it = handles().find(handle);
  return it == handles().end() ? nullptr : it->second.get();
}

cublasStatus_t no_handle(const char* op) {
  return refuse(CUBLAS_STATUS_NOT_INITIALIZED,
                fmt::format("[{}] handle: got none, expected one from cublasCreate", op));
}

// A matrix of the call: op(X) is (rows, cols) column by column, X itself transposed where op says so.
struct Matrix {
  const char* name;
  const float* p;
  cublasOperation_t op;
  int rows, cols, ld;
  long long stride;

  bool transposed() const { return op != CUBLAS_OP_N; }
  int stored_rows() const { return transposed() ? cols : rows; }
  int stored_cols() const { return transposed() ? rows : cols; }
  /// Bytes from the first to the last element of one matrix.
  size_t bytes() const {
    if (stored_rows() == 0 || stored_cols() == 0) return 0;
    return (size_t(ld) * size_t(stored_cols() - 1) + size_t(stored_rows())) * sizeof(float);
  }
};

struct Gemm {
  const char* name;
  int m, n, k, batch;
  float alpha, beta;
  Matrix a, b, c;
};

bool known(cublasOperation_t op) { return op == CUBLAS_OP_N || op == CUBLAS_OP_T || op == CUBLAS_OP_C; }

// What cuBLAS documents under CUBLAS_STATUS_INVALID_VALUE.
std::string complaint(const Gemm& g) {
  for (const auto& [name, n] :
       {std::pair{"m", g.m}, std::pair{"n", g.n}, std::pair{"k", g.k}, std::pair{"batchCount", g.batch}})
    if (n < 0) return fmt::format("[{}] {}: got {}, expected at least 0", g.name, name, n);
  for (const Matrix* x : {&g.a, &g.b, &g.c}) {
    const char letter = char(std::tolower(x->name[0]));
    if (!known(x->op))
      return fmt::format("[{}] trans{}: got {}, expected CUBLAS_OP_N, _T or _C", g.name, letter, int(x->op));
    if (x->ld < std::max(1, x->stored_rows()))
      return fmt::format("[{}] ld{}: got {}, expected at least {}, the rows of {} as it is stored", g.name, letter,
                         x->ld, std::max(1, x->stored_rows()), x->name);
  }
  if (g.batch > 1 && g.c.stride >= 0 && size_t(g.c.stride) * sizeof(float) < g.c.bytes() &&
      (g.c.stride == 0 || g.c.stride < g.c.rows))
    return fmt::format("[{}] strideC: got {}, expected matrices of C that do not overlap", g.name, g.c.stride);
  return {};
}

// The whole of each matrix must be device memory; this cuBLAS cannot check, and a GPU only by chance.
void check_memory(const Gemm& g) {
  const Memory& memory = Memory::instance();
  for (const Matrix* x : {&g.a, &g.b, &g.c})
    for (const int i : {0, g.batch - 1})
      memory.check_device_range(g.name, x->name, x->p + x->stride * i, x->bytes(), Site::current());
}

void watch([[maybe_unused]] const Matrix& x, [[maybe_unused]] int i, [[maybe_unused]] bool write) {
#if SIMT_WITH_TSAN
  auto* p = const_cast<float*>(x.p + x.stride * i);
  for (int column = 0; column < x.stored_cols(); ++column)
    (write ? __tsan_write_range : __tsan_read_range)(p + size_t(column) * size_t(x.ld),
                                                     size_t(x.stored_rows()) * sizeof(float));
#endif
}

// Under the thread sanitizer the CPU's BLAS has one thread: the sanitizer does not see its barriers, and would take
// them for races.
class OneThread {
 public:
  OneThread() {
    if (SIMT_WITH_TSAN) omp_set_num_threads(1);
  }
  ~OneThread() {
    if (SIMT_WITH_TSAN) omp_set_num_threads(before_);
  }

 private:
  const int before_ = omp_get_max_threads();
};

void multiply(const Gemm& g, Stream& s) {
  const tsan::Context as_stream(s.context);
  const OneThread for_the_sanitizer;
  const auto flag = [](const Matrix& x) { return x.transposed() ? CblasTrans : CblasNoTrans; };
  for (int i = 0; i < g.batch; ++i) {
    if (g.alpha != 0 && g.k > 0) watch(g.a, i, false), watch(g.b, i, false);
    watch(g.c, i, true);
    cblas_sgemm(CblasColMajor, flag(g.a), flag(g.b), g.m, g.n, g.k, g.alpha, g.a.p + g.a.stride * i, g.a.ld,
                g.b.p + g.b.stride * i, g.b.ld, g.beta, const_cast<float*>(g.c.p) + g.c.stride * i, g.c.ld);
  }
  tsan::release(&s.token);
}

cublasStatus_t gemm(cublasHandle_t handle, Gemm g, const float* alpha, const float* beta) {
  Handle* h = find(handle);
  if (!h) return no_handle(g.name);
  if (std::string text = complaint(g); !text.empty()) return refuse(CUBLAS_STATUS_INVALID_VALUE, text);
  if (!alpha || !beta)
    return refuse(CUBLAS_STATUS_INVALID_VALUE, fmt::format("[{}] alpha, beta: got a null pointer", g.name));
  for (const float* p : {alpha, beta})
    if (Memory::instance().is_device(reinterpret_cast<uintptr_t>(p)))
      return refuse(
          CUBLAS_STATUS_INVALID_VALUE,
          fmt::format("[{}] alpha, beta: got device memory, expected host memory (CUBLAS_POINTER_MODE_HOST)", g.name));
  if (g.m == 0 || g.n == 0 || g.batch == 0) return CUBLAS_STATUS_SUCCESS;
  g.alpha = *alpha, g.beta = *beta;
  check_memory(g);
  Queues& queues = Queues::instance();
  const std::lock_guard lock(queues.mutex);
  queues.submit(queues.stream(h->stream, g.name), [g](Stream& s) { multiply(g, s); });
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

cublasStatus_t blas_create(cublasHandle_t* handle) {
  if (!handle) return refuse(CUBLAS_STATUS_NOT_INITIALIZED, "[cublasCreate] handle: got a null pointer");
  auto made = std::make_unique<Handle>();
  *handle = reinterpret_cast<cublasHandle_t>(made.get());
  handles()[*handle] = std::move(made);
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t blas_destroy(cublasHandle_t handle) {
  if (!handles().erase(handle)) return no_handle("cublasDestroy");
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t blas_set_stream(cublasHandle_t handle, cudaStream_t stream) {
  Handle* h = find(handle);
  if (!h) return no_handle("cublasSetStream");
  Queues::instance().stream(stream, "cublasSetStream");
  h->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t blas_get_stream(cublasHandle_t handle, cudaStream_t* stream) {
  Handle* h = find(handle);
  if (!h) return no_handle("cublasGetStream");
  *stream = h->stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t blas_set_math_mode(cublasHandle_t handle, cublasMath_t mode) {
  Handle* h = find(handle);
  if (!h) return no_handle("cublasSetMathMode");
  // TF32 and its like are accepted and change nothing: the CPU multiplies in full float.
  const int base = int(mode) & ~int(CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION);
  if (base != CUBLAS_DEFAULT_MATH && base != CUBLAS_TENSOR_OP_MATH && base != CUBLAS_PEDANTIC_MATH &&
      base != CUBLAS_TF32_TENSOR_OP_MATH)
    return refuse(CUBLAS_STATUS_INVALID_VALUE,
                  fmt::format("[cublasSetMathMode] mode: got {}, expected a cublasMath_t", int(mode)));
  h->mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t blas_get_math_mode(cublasHandle_t handle, cublasMath_t* mode) {
  Handle* h = find(handle);
  if (!h) return no_handle("cublasGetMathMode");
  *mode = h->mode;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t blas_set_workspace(cublasHandle_t handle, void* workspace, size_t bytes) {
  if (!find(handle)) return no_handle("cublasSetWorkspace");
  if (reinterpret_cast<uintptr_t>(workspace) % 256 != 0)
    return refuse(CUBLAS_STATUS_INVALID_VALUE,
                  "[cublasSetWorkspace] workspace: got an address that is no multiple of 256");
  Memory::instance().check_device_range("cublasSetWorkspace", "workspace", workspace, bytes, Site::current());
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t blas_sgemm(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int m, int n,
                          int k, const float* alpha, const float* a, int lda, const float* b, int ldb,
                          const float* beta, float* c, int ldc) {
  return gemm(handle,
              {"cublasSgemm",
               m,
               n,
               k,
               1,
               0,
               0,
               {"A", a, transa, m, k, lda, 0},
               {"B", b, transb, k, n, ldb, 0},
               {"C", c, CUBLAS_OP_N, m, n, ldc, 0}},
              alpha, beta);
}

cublasStatus_t blas_sgemm_strided_batched(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb,
                                          int m, int n, int k, const float* alpha, const float* a, int lda,
                                          long long stride_a, const float* b, int ldb, long long stride_b,
                                          const float* beta, float* c, int ldc, long long stride_c, int batch) {
  return gemm(handle,
              {"cublasSgemmStridedBatched",
               m,
               n,
               k,
               batch,
               0,
               0,
               {"A", a, transa, m, k, lda, stride_a},
               {"B", b, transb, k, n, ldb, stride_b},
               {"C", c, CUBLAS_OP_N, m, n, ldc, stride_c}},
              alpha, beta);
}

const char* blas_status_string(cublasStatus_t status) {
  static thread_local std::string text;
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      text = "CUBLAS_STATUS_NOT_INITIALIZED";
      break;
    case CUBLAS_STATUS_INVALID_VALUE:
      text = "CUBLAS_STATUS_INVALID_VALUE";
      break;
    default:
      text = fmt::format("cublasStatus_t {}", int(status));
  }
  return (text += ": " + explanation).c_str();
}

}  // namespace simt
