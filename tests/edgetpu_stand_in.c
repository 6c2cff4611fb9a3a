/* A stand-in for the Edge TPU's runtime library, for tests on machines without one. It is no Edge TPU, no part of the
 * package, and never named like the library whose place it takes.
 *
 * It exports the two functions by which TFLite interpreters load a delegate, and the functions that list devices and
 * tell a version. Its delegate claims the operators named "edgetpu-custom-op" and computes, on the CPU:
 *
 *     float32   y = 2 a       from one input, y = a + b from two
 *     int32     y = 2 a
 *     uint8, int8   y = not a, bit by bit; the rest of a longer y is 0
 *
 * What it does is told by environment variables, read again at each call:
 *
 *     EDGETPU_STAND_IN_DEVICES     "usb,usb,pci" are two on USB and one on PCIe; default "usb", "" for none
 *     EDGETPU_STAND_IN_LIST        "crash": listing the devices does so
 *     EDGETPU_STAND_IN_CREATE      "refuse", "refuse once", "hang", "crash" or "killed" when a delegate is created
 *     EDGETPU_STAND_IN_PREPARE     "old": refuses a model as one for a newer runtime
 *     EDGETPU_STAND_IN_RUN         "hang", "crash" or "killed" (as if from outside) at each run
 *     EDGETPU_STAND_IN_CLAIM       claims at most so many operators
 *     EDGETPU_STAND_IN_DELAY_US    each run takes so long
 *     EDGETPU_STAND_IN_LOSE_AFTER  after so many runs of a process the device is gone ...
 *     EDGETPU_STAND_IN_AWAY_MS     ... for so long; what was created before never works again
 *     EDGETPU_STAND_IN_LOCK        a file that the process with the device locks, to its end: others are refused
 *     EDGETPU_STAND_IN_VERSION     the runtime version, default 14
 *
 * Built with -DGENERIC it is a stand-in for any other delegate's library: it lists no devices and has no version, its
 * settings begin with DELEGATE_STAND_IN_, and like most delegates it takes the interpreter's own operators, as many in a
 * row as there are into one kernel: ADD, MUL and MAXIMUM of two tensors of equal shape, in float32 and int32, MAXIMUM in
 * uint8 and int8, too. It knows the option StandIn.DelayUs and refuses others. In the place of devices it has
 *
 *     DELEGATE_STAND_IN_CREATE     also "say": it writes to stdout and stderr, and creates a delegate
 *     DELEGATE_STAND_IN_PREPARE    "refuse": refuses every model; "static": refuses one whose shapes a run finds out
 *     DELEGATE_STAND_IN_RUN        also "fail", and "wrong": every value has the opposite sign
 *
 * The structs are those of tensorflow/lite/core/c/common.h, as far as they are used. Their order is kept from version
 * to version and new members come last; so a registration, which is passed by value, is given room for the newest.
 * Linux on x86-64 and aarch64: there a callee that knows a shorter one reads the beginning of it. */

#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, ERROR = 1 };
enum { FLOAT32 = 1, INT32 = 2, UINT8 = 3, INT8 = 9 };

typedef struct {
  int size;
  int data[];
} IntArray;

typedef struct {
  int type;
  void *data;
  IntArray *dims;
  struct {
    float scale;
    int32_t zero_point;
  } params;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  void *delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  struct {
    int type;
    void *params;
  } quantization;
  void *sparsity;
  const IntArray *dims_signature;
} Tensor;

typedef struct {
  IntArray *inputs;
  IntArray *outputs;
  IntArray *intermediates;
  IntArray *temporaries;
  void *user_data;
  void *builtin_data;
} Node;

typedef struct Context Context;
typedef struct Delegate Delegate;

typedef struct {
  void *(*init)(Context *, const char *, size_t);
  void (*free)(Context *, void *);
  int (*prepare)(Context *, Node *);
  int (*invoke)(Context *, Node *);
  const char *(*profiling_string)(const Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *registration_external;
  void *async_kernel;
  uint64_t inplace_operator;
} Registration;

struct Context {
  size_t tensors_size;
  int (*get_execution_plan)(Context *, IntArray **);
  Tensor *tensors;
  void *impl;
  int (*resize_tensor)(Context *, Tensor *, IntArray *);
  void (*report_error)(Context *, const char *, ...);
  int (*add_tensors)(Context *, int, int *);
  int (*get_node_and_registration)(Context *, int, Node **, Registration **);
  int (*replace_node_subsets_with_delegate_kernels)(Context *, Registration, const IntArray *, Delegate *);
};

struct Delegate {
  void *data;
  int (*prepare)(Context *, Delegate *);
  int (*copy_from_buffer_handle)(Context *, Delegate *, int, Tensor *);
  int (*copy_to_buffer_handle)(Context *, Delegate *, int, Tensor *);
  void (*free_buffer_handle)(Context *, Delegate *, int *);
  int64_t flags;
  void *opaque_delegate_builder;
};

typedef struct {
  Delegate *delegate;
  IntArray *nodes_to_replace;
  IntArray *input_tensors;
  IntArray *output_tensors;
} DelegateParams;

/* What the delegate of one interpreter is connected to. */
typedef struct {
  Delegate delegate;
  int losses; /* how many there had been when it was created */
  int delay_us;
} Connection;

#ifdef GENERIC
#define PREFIX "DELEGATE_STAND_IN_"
#else
#define PREFIX "EDGETPU_STAND_IN_"
#endif

static const char *setting(const char *name, const char *otherwise) {
  char full[64];
  snprintf(full, sizeof full, PREFIX "%s", name);
  const char *value = getenv(full);
  return value ? value : otherwise;
}

static void misbehave(const char *how) {
  if (!strcmp(how, "hang"))
    for (;;) sleep(1000);
  if (!strcmp(how, "killed")) raise(SIGKILL);
  if (!strcmp(how, "crash")) {
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
  }
}

#ifdef GENERIC
enum { ADD = 0, MUL = 18, MAXIMUM = 55 }; /* of tensorflow/lite/builtin_ops.h */

/* One operator of a kernel: y = a (kind) b. */
typedef struct {
  int kind, a, b, y;
} Step;

typedef struct {
  const Connection *connection;
  int size;
  Step steps[];
} Program;

static bool equal(const IntArray *one, const IntArray *other) {
  return one->size == other->size && !memcmp(one->data, other->data, sizeof(int) * (size_t)one->size);
}

static bool can(Context *context, const Node *node, int kind) {
  if ((kind != ADD && kind != MUL && kind != MAXIMUM) || node->inputs->size != 2) return false;
  if (kind != MAXIMUM && *(const int *)node->builtin_data) return false; /* an activation */
  const Tensor *a = &context->tensors[node->inputs->data[0]], *b = &context->tensors[node->inputs->data[1]];
  bool integers = kind == MAXIMUM && (a->type == UINT8 || a->type == INT8);
  return a->type == b->type && equal(a->dims, b->dims) && (a->type == FLOAT32 || a->type == INT32 || integers);
}

static void *kernel_init(Context *context, const char *buffer, size_t length) {
  (void)length;
  const DelegateParams *params = (const DelegateParams *)buffer;
  int size = params->nodes_to_replace->size;
  Program *program = malloc(sizeof *program + sizeof(Step) * (size_t)size);
  program->connection = params->delegate->data;
  program->size = size;
  for (int i = 0; i < size; ++i) {
    Node *node;
    Registration *registration;
    context->get_node_and_registration(context, params->nodes_to_replace->data[i], &node, &registration);
    program->steps[i] = (Step){
        registration->builtin_code, node->inputs->data[0], node->inputs->data[1], node->outputs->data[0]};
  }
  return program;
}

static void kernel_free(Context *context, void *buffer) {
  (void)context;
  free(buffer);
}

/* Tell whether a kernel's result leaves it; what does not has no memory of the interpreter's. */
static bool leaves(const Node *node, int tensor) {
  for (int i = 0; i < node->outputs->size; ++i)
    if (node->outputs->data[i] == tensor) return true;
  return false;
}

static int kernel_prepare(Context *context, Node *node) {
  const Program *program = node->user_data;
  const IntArray **dims = calloc(context->tensors_size, sizeof *dims);
  int status = OK;
  for (int i = 0; i < program->size && status == OK; ++i) {
    const Step *step = &program->steps[i];
    const IntArray *wanted = dims[step->a] ? dims[step->a] : context->tensors[step->a].dims;
    dims[step->y] = wanted;
    Tensor *y = &context->tensors[step->y];
    if (leaves(node, step->y) && !equal(y->dims, wanted)) {
      size_t bytes = sizeof *wanted + sizeof(int) * (size_t)wanted->size;
      IntArray *copy = malloc(bytes);
      memcpy(copy, wanted, bytes);
      status = context->resize_tensor(context, y, copy);
    }
  }
  free(dims);
  return status;
}

#define APPLY(type)                                                     \
  for (size_t k = 0; k < bytes / sizeof(type); ++k) {                   \
    type l = ((const type *)a)[k], r = ((const type *)b)[k];            \
    type v = kind == ADD ? l + r : kind == MUL ? l * r : l > r ? l : r; \
    ((type *)y)[k] = wrong ? (type)-v : v;                                \
  }

static void compute(int kind, int type, const void *a, const void *b, void *y, size_t bytes, bool wrong) {
  switch (type) {
    case FLOAT32:
      APPLY(float);
      break;
    case INT32:
      APPLY(int32_t);
      break;
    case UINT8:
      APPLY(uint8_t);
      break;
    case INT8:
      APPLY(int8_t);
      break;
  }
}

static int kernel_invoke(Context *context, Node *node) {
  const Program *program = node->user_data;
  const char *how = setting("RUN", "");
  misbehave(how);
  if (program->connection->delay_us) usleep((useconds_t)program->connection->delay_us);
  if (!strcmp(how, "fail")) {
    context->report_error(context, "the stand-in fails on demand");
    return ERROR;
  }
  void **own = calloc(context->tensors_size, sizeof *own);
  size_t *sizes = calloc(context->tensors_size, sizeof *sizes);
  for (int i = 0; i < program->size; ++i) {
    const Step *step = &program->steps[i];
    const Tensor *a = &context->tensors[step->a], *b = &context->tensors[step->b], *y = &context->tensors[step->y];
    size_t bytes = own[step->a] ? sizes[step->a] : a->bytes;
    if (!leaves(node, step->y)) own[step->y] = malloc(bytes + 1), sizes[step->y] = bytes;
    compute(step->kind, y->type, own[step->a] ? own[step->a] : a->data, own[step->b] ? own[step->b] : b->data,
            own[step->y] ? own[step->y] : y->data, bytes, !strcmp(how, "wrong"));
  }
  for (size_t i = 0; i < context->tensors_size; ++i) free(own[i]);
  free(own);
  free(sizes);
  return OK;
}

static int claim_operators(Context *context, Delegate *delegate) {
  if (!strcmp(setting("PREPARE", ""), "refuse")) {
    context->report_error(context, "the stand-in refuses every model");
    return ERROR;
  }
  IntArray *plan;
  if (context->get_execution_plan(context, &plan) != OK) return ERROR;
  int left = atoi(setting("CLAIM", "1000000"));
  IntArray *claimed = malloc(sizeof *claimed + sizeof(int) * (size_t)(plan->size + 1));
  claimed->size = 0;
  for (int i = 0; i < plan->size && left; ++i) {
    Node *node;
    Registration *registration;
    if (context->get_node_and_registration(context, plan->data[i], &node, &registration) != OK) return ERROR;
    if (can(context, node, registration->builtin_code)) {
      claimed->data[claimed->size++] = plan->data[i];
      --left;
    }
  }
  Registration kernel = {
      .init = kernel_init, .free = kernel_free, .prepare = kernel_prepare, .invoke = kernel_invoke,
      .custom_name = "DelegateStandIn", .version = 1};
  int status = context->replace_node_subsets_with_delegate_kernels(context, kernel, claimed, delegate);
  free(claimed);
  return status;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  const char *how = setting("CREATE", "");
  misbehave(how);
  if (!strcmp(how, "refuse")) { /* as most do: a line on stderr, and no reason to the caller */
    fprintf(stderr, "the stand-in finds no device\n");
    return NULL;
  }
  if (!strcmp(how, "say")) {
    fprintf(stderr, "the stand-in says so on stderr\n");
    printf("the stand-in says so on stdout\n");
    fflush(stdout);
  }
  int delay_us = 0;
  for (size_t i = 0; i < count; ++i) {
    if (strcmp(keys[i], "StandIn.DelayUs")) {
      char text[256];
      snprintf(text, sizeof text, "unknown option %s", keys[i]);
      report(text);
      return NULL;
    }
    delay_us = atoi(values[i]);
  }
  Connection *connection = calloc(1, sizeof *connection);
  connection->delegate.data = connection;
  connection->delegate.prepare = claim_operators;
  connection->delegate.flags = strcmp(setting("PREPARE", ""), "static") ? 1 : 0; /* dynamic tensors are fine */
  connection->delay_us = delay_us;
  return &connection->delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }

#else

static int runs, losses, refusals;
static double gone_until;

static double now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

/* Count the devices of a kind, or all of them for "". */
static int count_devices(const char *kind) {
  if (now_ms() < gone_until) return 0;
  char list[256];
  snprintf(list, sizeof list, "%s", setting("DEVICES", "usb"));
  int count = 0;
  char *rest = NULL;
  for (char *word = strtok_r(list, ",", &rest); word; word = strtok_r(NULL, ",", &rest))
    count += !*kind || !strcmp(word, kind);
  return count;
}

/* Tell whether there is a device that Coral's words describe: "", ":0", "usb", "usb:1", "pci:0". */
static bool has_device(const char *words) {
  char kind[16];
  snprintf(kind, sizeof kind, "%s", words);
  char *colon = strchr(kind, ':');
  int index = colon ? atoi(colon + 1) : 0;
  if (colon) *colon = 0;
  return index < count_devices(kind);
}

/* The delegate's kernel */

static void *kernel_init(Context *context, const char *buffer, size_t length) {
  (void)context, (void)length;
  return ((const DelegateParams *)buffer)->delegate->data;
}

static void kernel_free(Context *context, void *buffer) { (void)context, (void)buffer; }

static int kernel_prepare(Context *context, Node *node) {
  if (!strcmp(setting("PREPARE", ""), "old")) {
    context->report_error(context, "Failed precondition: Package requires runtime version (15), "
                                   "which is newer than this runtime version (%s).", setting("VERSION", "14"));
    return ERROR;
  }
  IntArray *dims = context->tensors[node->inputs->data[0]].dims;
  Tensor *output = &context->tensors[node->outputs->data[0]];
  size_t size = sizeof *dims + sizeof(int) * (size_t)dims->size;
  bool dynamic = output->dims_signature && output->dims_signature->size;
  if (dynamic && memcmp(output->dims, dims, size)) {
    IntArray *copy = malloc(size);
    memcpy(copy, dims, size);
    return context->resize_tensor(context, output, copy);
  }
  return OK;
}

static int kernel_invoke(Context *context, Node *node) {
  const Connection *connection = node->user_data;
  misbehave(setting("RUN", ""));
  int delay = connection->delay_us ? connection->delay_us : atoi(setting("DELAY_US", "0"));
  if (delay) usleep((useconds_t)delay);
  int limit = atoi(setting("LOSE_AFTER", "0"));
  if (limit && ++runs > limit) {
    runs = 0;
    ++losses;
    gone_until = now_ms() + atof(setting("AWAY_MS", "0"));
  }
  const Tensor *a = &context->tensors[node->inputs->data[0]];
  const Tensor *b = node->inputs->size > 1 ? &context->tensors[node->inputs->data[1]] : a;
  Tensor *y = &context->tensors[node->outputs->data[0]];
  if (connection->losses != losses || !count_devices("")) {
    memset(y->data, 0x55, y->bytes); /* a broken transfer leaves anything */
    context->report_error(context, "the stand-in's device does not answer");
    return ERROR;
  }
  switch (y->type) {
    case FLOAT32:
      for (size_t i = 0; i < y->bytes / 4; ++i) ((float *)y->data)[i] = ((float *)a->data)[i] + ((float *)b->data)[i];
      return OK;
    case INT32:
      for (size_t i = 0; i < y->bytes / 4; ++i) ((int32_t *)y->data)[i] = 2 * ((int32_t *)a->data)[i];
      return OK;
    case UINT8:
    case INT8:
      for (size_t i = 0; i < y->bytes; ++i)
        ((uint8_t *)y->data)[i] = i < a->bytes ? (uint8_t)~((uint8_t *)a->data)[i] : 0;
      return OK;
  }
  context->report_error(context, "the stand-in computes no tensor of type %d", y->type);
  return ERROR;
}

static int claim_operators(Context *context, Delegate *delegate) {
  IntArray *plan;
  if (context->get_execution_plan(context, &plan) != OK) return ERROR;
  int left = atoi(setting("CLAIM", "1000000")), claimed = 0;
  int *nodes = malloc(sizeof(int) * (size_t)(plan->size + 1));
  for (int i = 0; i < plan->size && left; ++i) {
    Node *node;
    Registration *registration;
    if (context->get_node_and_registration(context, plan->data[i], &node, &registration) != OK) return ERROR;
    if (registration->custom_name && !strcmp(registration->custom_name, "edgetpu-custom-op")) {
      nodes[claimed++] = plan->data[i];
      --left;
    }
  }
  Registration kernel = {
      .init = kernel_init, .free = kernel_free, .prepare = kernel_prepare, .invoke = kernel_invoke,
      .custom_name = "EdgeTpuStandIn", .version = 1};
  IntArray *one = malloc(sizeof *one + sizeof(int));
  one->size = 1;
  int status = OK;
  for (int i = 0; i < claimed && status == OK; ++i) { /* one kernel for each operator, like the Edge TPU's own */
    one->data[0] = nodes[i];
    status = context->replace_node_subsets_with_delegate_kernels(context, kernel, one, delegate);
  }
  free(one);
  free(nodes);
  return status;
}

/* What it exports */

/* Tell whether no other process has the device; from now on this one has it, to its end. */
static bool is_mine(void) {
  const char *path = setting("LOCK", "");
  static int file;
  if (!*path || file) return true;
  int opened = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  if (opened < 0 || fcntl(opened, F_SETLK, &lock)) return false;
  file = opened;
  return true;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  (void)report; /* the Edge TPU's own library gives no reason either */
  const char *how = setting("CREATE", "");
  misbehave(how);
  if (!strcmp(how, "refuse") || (!strcmp(how, "refuse once") && !refusals++)) return NULL;
  const char *device = "";
  int delay_us = 0;
  for (size_t i = 0; i < count; ++i) {
    if (!strcmp(keys[i], "device")) device = values[i];
    if (!strcmp(keys[i], "StandIn.DelayUs")) delay_us = atoi(values[i]);
  }
  if (!has_device(device) || !is_mine()) return NULL;
  Connection *connection = calloc(1, sizeof *connection);
  connection->delegate.data = connection;
  connection->delegate.prepare = claim_operators;
  connection->delegate.flags = 1; /* dynamic tensors are fine */
  connection->losses = losses;
  connection->delay_us = delay_us;
  return &connection->delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }

struct device {
  int type;
  const char *path;
};

struct device *edgetpu_list_devices(size_t *count) {
  misbehave(setting("LIST", ""));
  *count = (size_t)count_devices("");
  if (!*count) return NULL;
  struct device *found = calloc(*count, sizeof *found + 64);
  char *paths = (char *)(found + *count);
  char list[256];
  snprintf(list, sizeof list, "%s", setting("DEVICES", "usb"));
  char *rest = NULL;
  int i = 0;
  for (char *word = strtok_r(list, ",", &rest); word; word = strtok_r(NULL, ",", &rest), ++i, paths += 64) {
    bool usb = !strcmp(word, "usb");
    found[i].type = usb;
    found[i].path = paths;
    snprintf(paths, 64, usb ? "/sys/bus/usb/devices/stand-in-%d" : "/dev/stand-in-%d", i);
  }
  return found;
}

void edgetpu_free_devices(struct device *devices) { free(devices); }

const char *edgetpu_version(void) {
  static char text[64];
  snprintf(text, sizeof text, "BuildLabel(stand-in), RuntimeVersion(%s)", setting("VERSION", "14"));
  return text;
}

#endif
