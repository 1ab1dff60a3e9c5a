// What an operator of libopapi.so is made of. CANN calls each in two steps, aclnnXGetWorkspaceSize(arguments.., &size,
// &executor) and aclnnX(workspace, size, executor, stream); a row below writes both:
//
//     OP(aclnnMuls, (In a, Scalar b, Out out), { put(out, at::mul(a, b)); })
//
// The parameters stand in the order of CANN's header. Each is one machine word when CANN passes it (a pointer or a
// number); here it becomes what libtorch works with: views of the "device" memory, numbers, and copies of lists, so
// that the caller may free its own right after the launch, as torch_npu does. The body is run when the stream comes to
// it.
#pragma once
#include <ATen/ATen.h>

#include <functional>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "../abi.h"

// ---- CANN's objects; torch_npu holds them only by pointer

struct aclOpExecutor;  // a planned operator (launch.cpp)
struct aclTensor {
    at::Tensor view;  // undefined: of a type that libtorch has not
    aclDataType type;
    aclFormat format;
    std::shared_ptr<std::vector<int64_t>> found;  // the sizes that an operator found, where the data decides them
};
struct aclScalar {
    c10::Scalar value;
};
struct aclIntArray {
    std::vector<int64_t> values;
};
struct aclBoolArray {
    std::vector<bool> values;
};
struct aclTensorList {
    std::vector<const aclTensor*> tensors;
};
struct aclScalarList {
    std::vector<c10::Scalar> values;
};

namespace cannsim {

using at::Tensor;
using c10::Scalar;
using std::get;

// ---- the parameters of a row

struct In : Tensor {};                      // read
struct Out : Tensor {};                     // written; or read and written
struct MaybeIn : c10::optional<Tensor> {};  // may be a null pointer
struct MaybeOut : c10::optional<Tensor> {};
struct Sized : Tensor {  // written, and the operator says how much of it
    std::shared_ptr<std::vector<int64_t>> found;
};
struct MaybeScalar : c10::optional<Scalar> {};
struct List : std::vector<Tensor> {};
struct OutList : std::vector<Tensor> {};
struct Scalars : std::vector<Scalar> {};
struct Ints : std::vector<int64_t> {
    operator at::OptionalIntArrayRef() const { return at::IntArrayRef(*this); }
};
struct Bools : std::vector<bool> {};
struct Type {
    at::ScalarType value;
};
using Text = std::string;

// A tensor argument as the checks of launch.cpp see it.
struct Seen {
    int position;  // among the tensor arguments, from 0; all tensors of a list have one
    const aclTensor* tensor;
    bool written;
};
using Arguments = std::vector<Seen>;

// How a parameter of type P is passed (Raw), and what becomes of it.
template <class P>
struct Parameter {  // a number
    using Raw = P;
    static P take(P raw, Arguments&, int&) { return raw; }
};
const aclTensor* given(const aclTensor* tensor);  // throws where it is null
Tensor view(const aclTensor* tensor);
at::ScalarType scalar_type(aclDataType type);

template <class P, bool written>
struct TensorParameter {
    using Raw = const aclTensor*;
    static P take(Raw raw, Arguments& seen, int& position) {
        seen.push_back({position++, given(raw), written});
        return P{view(raw)};
    }
};
template <>
struct Parameter<In> : TensorParameter<In, false> {};
template <>
struct Parameter<Out> : TensorParameter<Out, true> {};
template <>
struct Parameter<Sized> {
    using Raw = const aclTensor*;
    static Sized take(Raw raw, Arguments& seen, int& position) {
        seen.push_back({position++, given(raw), true});
        return Sized{view(raw), raw->found};
    }
};
template <class P, bool written>
struct MaybeParameter {
    using Raw = const aclTensor*;
    static P take(Raw raw, Arguments& seen, int& position) {
        int mine = position++;
        if (!raw) return {};
        seen.push_back({mine, raw, written});
        return P{view(raw)};
    }
};
template <>
struct Parameter<MaybeIn> : MaybeParameter<MaybeIn, false> {};
template <>
struct Parameter<MaybeOut> : MaybeParameter<MaybeOut, true> {};
template <class P, bool written>
struct ListParameter {
    using Raw = const aclTensorList*;
    static P take(Raw raw, Arguments& seen, int& position) {
        P list;
        int mine = position++;
        for (const aclTensor* tensor : raw ? raw->tensors : std::vector<const aclTensor*>()) {
            if (tensor) seen.push_back({mine, tensor, written});
            list.push_back(tensor ? view(tensor) : Tensor());
        }
        return list;
    }
};
template <>
struct Parameter<List> : ListParameter<List, false> {};
template <>
struct Parameter<OutList> : ListParameter<OutList, true> {};
template <>
struct Parameter<Scalar> {
    using Raw = const aclScalar*;
    static Scalar take(Raw raw, Arguments&, int&) {
        TORCH_CHECK(raw, "a scalar is a null pointer");
        return raw->value;
    }
};
template <>
struct Parameter<MaybeScalar> {
    using Raw = const aclScalar*;
    static MaybeScalar take(Raw raw, Arguments&, int&) { return raw ? MaybeScalar{raw->value} : MaybeScalar{}; }
};
template <class P, class Array>
struct ArrayParameter {  // a null pointer is an empty array
    using Raw = const Array*;
    static P take(Raw raw, Arguments&, int&) { return raw ? P{raw->values} : P{}; }
};
template <>
struct Parameter<Ints> : ArrayParameter<Ints, aclIntArray> {};
template <>
struct Parameter<Bools> : ArrayParameter<Bools, aclBoolArray> {};
template <>
struct Parameter<Scalars> : ArrayParameter<Scalars, aclScalarList> {};
template <>
struct Parameter<Type> {
    using Raw = int;
    static Type take(Raw raw, Arguments&, int&) { return {scalar_type(aclDataType(raw))}; }
};
template <>
struct Parameter<Text> {
    using Raw = const char*;
    static Text take(Raw raw, Arguments&, int&) { return raw ? raw : ""; }
};

// ---- launch.cpp: the two steps

using Body = std::function<void()>;
// Runs `take`, which gathers the arguments and gives the body; checks them; -> a status, and the executor
int plan(const char* name, const std::function<Body(Arguments&)>& take, uint64_t* workspace, aclOpExecutor** executor);
int launch(aclOpExecutor* executor, aclrtStream stream);

template <auto run>
struct Operator;
template <class... P, void (*run)(P...)>
struct Operator<run> {
    template <const char* name>
    static int plan(typename Parameter<P>::Raw... raw, uint64_t* workspace, aclOpExecutor** executor) {
        auto take = [&](Arguments& seen) -> Body {
            int position = 0;
            std::tuple<P...> taken{Parameter<P>::take(raw, seen, position)...};  // braces: from the first to the last
            return [taken = std::move(taken)] { std::apply(run, taken); };
        };
        return cannsim::plan(name, take, workspace, executor);
    }
};

// The exported aclnnXGetWorkspaceSize must be a C function with the parameters' raw types, which a macro cannot name.
// So it is a symbol that the dynamic linker resolves to Operator<..>::plan (GNU ifunc).
#define OP(name, parameters, ...)                                                               \
    static constexpr char name##_name[] = #name;                                                \
    static void name##_body parameters __VA_ARGS__ extern "C" {                                 \
        static void* name##_plan() {                                                            \
            return reinterpret_cast<void*>(&cannsim::Operator<name##_body>::plan<name##_name>); \
        }                                                                                       \
    }                                                                                           \
    API int name##GetWorkspaceSize() __attribute__((ifunc(#name "_plan")));                     \
    API int name(void*, uint64_t, aclOpExecutor* executor, aclrtStream stream) {                \
        return cannsim::launch(executor, stream);                                               \
    }

// ---- tensors.cpp: what bodies share

// Writes a result where the caller wants it: it may be of another type, or of as many elements in other sizes
// (0-dimensional or one element), but never broadcast.
void put(const Tensor& out, const Tensor& value);
inline void put(const c10::optional<Tensor>& out, const Tensor& value) {
    if (out) put(*out, value);
}
void put_found(const Sized& out, const Tensor& value);  // at the front of `out`, whose room is enough
// Half precision as float32: the device's units that add up many products do so in float32.
Tensor wide(const Tensor& tensor);
c10::optional<Tensor> wide(const c10::optional<Tensor>& tensor);
// A mask of dropout, one bit an element, the first in the lowest bit -> as many float32 numbers, 1 or 0.
Tensor unpacked(const Tensor& mask, int64_t count);

}  // namespace cannsim
