/* A Vulkan layer under which chosen calls fail, take long, or do not come back. It stands between the loader and the driver and
 * needs no Vulkan headers: what it uses of them is declared here, as the specification has it.
 *
 *   TERSOR_FAULT=CALL:N:WHAT[:once]   from the N-th CALL on (or only that one): lost, device-memory, host-memory; hang (until
 *                                     the time that the caller allows is over, for ever if it allows that); delay (300 ms)
 *   TERSOR_FAULT_COUNTS=FILE          how often each CALL was made, one a line, written when the process ends
 *   TERSOR_FAULT_HARDWARE=1           every adapter says that it is a discrete GPU
 *
 * CALL: submit, wait, status, allocate, pipeline, map, buffer, record, descriptors, device, idle.
 *
 * Source: the loader's interface with layers, version 2 (Vulkan-Loader, docs/LoaderLayerInterface.md). */
#define _POSIX_C_SOURCE 200809L
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, TIMEOUT = 2, NO_HOST_MEMORY = -1, NO_DEVICE_MEMORY = -2, DEVICE_LOST = -4 };
enum { LOADER_INSTANCE = 47, LOADER_DEVICE = 48, LINK = 0, DISCRETE_GPU = 2 };

typedef int Result;
typedef void (*Function)(void);
typedef Function (*Lookup)(void *object, const char *name);

/* VkInstanceCreateInfo and VkDeviceCreateInfo, as far as their chains. */
struct Chain {
    int type;
    const struct Chain *next;
};

/* VkLayerInstanceLink and VkLayerDeviceLink begin alike, but for their second function. */
struct Next {
    struct Next *next;
    Lookup of_instance;
    Lookup of_device;
};

/* VkLayerInstanceCreateInfo, VkLayerDeviceCreateInfo. */
struct Link {
    int type;
    const void *chain;
    int function;
    struct Next *layer;
};

struct Negotiation {
    int type;
    void *chain;
    uint32_t version;
    Lookup of_instance, of_device, of_physical_device;
};

enum Call { SUBMIT, WAIT, STATUS, ALLOCATE, PIPELINE, MAP, BUFFER, RECORD, DESCRIPTORS, DEVICE, IDLE, CALLS };
static const char *const names[CALLS] = { "submit", "wait", "status", "allocate", "pipeline", "map", "buffer", "record",
                                          "descriptors", "device", "idle" };
static _Atomic long counts[CALLS];
/* A wait hangs: whatever the driver says, nothing is done any more. */
static _Atomic int hung;
static _Atomic uint64_t reached;

static void *instance;
static Lookup next_of_instance, next_of_device;
static void (*next_properties)(void *, void *), (*next_properties2)(void *, void *);
static Result (*next_create_device)(void *, const void *, const void *, void **);

static void pause_for(uint64_t nanoseconds) {
    struct timespec span = { (time_t)(nanoseconds / 1000000000u), (long)(nanoseconds % 1000000000u) };
    nanosleep(&span, 0);
}

/* Counts a call; what it is to return, or SUCCESS if it is to be made. `allowed`: for how long the caller would wait. */
static Result injected(enum Call call, uint64_t allowed) {
    long number = 1 + atomic_fetch_add(&counts[call], 1), wanted;
    const char *fault = getenv("TERSOR_FAULT");
    char name[32], what[32], once[8] = "";
    if (!fault || sscanf(fault, "%31[^:]:%ld:%31[^:]:%7s", name, &wanted, what, once) < 3) return SUCCESS;
    if (strcmp(name, names[call]) || (once[0] ? number != wanted : number < wanted)) return SUCCESS;
    if (!strcmp(what, "device-memory")) return NO_DEVICE_MEMORY;
    if (!strcmp(what, "host-memory")) return NO_HOST_MEMORY;
    if (!strcmp(what, "delay")) {
        pause_for(300000000u);
        return SUCCESS;
    }
    if (!strcmp(what, "hang")) {
        if (call == WAIT) atomic_store(&hung, 1);
        while (allowed > 3600000000000u) pause_for(3600000000000u);
        pause_for(allowed);
        return TIMEOUT;
    }
    return DEVICE_LOST;
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("TERSOR_FAULT_COUNTS");
    FILE *file = path ? fopen(path, "w") : 0;
    if (!file) return;
    for (int i = 0; i < CALLS; i++) fprintf(file, "%s %ld\n", names[i], atomic_load(&counts[i]));
    fclose(file);
}

/* A function that fails if it is to, or does what the driver's does. */
#define WRAP(function, call, allowed, parameters, arguments)                                                                   \
    static Result (*next_##function) parameters;                                                                               \
    static Result wrapped_##function parameters {                                                                              \
        Result fault = injected(call, allowed);                                                                                \
        return fault ? fault : next_##function arguments;                                                                      \
    }

#define EVER UINT64_MAX
WRAP(vkQueueSubmit, SUBMIT, EVER, (void *q, uint32_t n, const void *s, void *f), (q, n, s, f))
WRAP(vkWaitSemaphores, WAIT, timeout, (void *d, const void *i, uint64_t timeout), (d, i, timeout))
WRAP(vkWaitForFences, WAIT, timeout, (void *d, uint32_t n, const void *f, uint32_t all, uint64_t timeout), (d, n, f, all, timeout))
WRAP(vkGetSemaphoreCounterValue, STATUS, EVER, (void *d, void *s, uint64_t *v), (d, s, v))
WRAP(vkAllocateMemory, ALLOCATE, EVER, (void *d, const void *i, const void *a, void *m), (d, i, a, m))
WRAP(vkCreateComputePipelines, PIPELINE, EVER, (void *d, void *c, uint32_t n, const void *i, const void *a, void *p),
     (d, c, n, i, a, p))
WRAP(vkMapMemory, MAP, EVER, (void *d, void *m, uint64_t o, uint64_t s, uint32_t f, void **p), (d, m, o, s, f, p))
WRAP(vkCreateBuffer, BUFFER, EVER, (void *d, const void *i, const void *a, void *b), (d, i, a, b))
WRAP(vkBeginCommandBuffer, RECORD, EVER, (void *c, const void *i), (c, i))
WRAP(vkAllocateDescriptorSets, DESCRIPTORS, EVER, (void *d, const void *i, void *s), (d, i, s))
WRAP(vkDeviceWaitIdle, IDLE, EVER, (void *d), (d))

/* How far the device is, which does not change while it hangs. */
static Result wrapped_counter(void *device, void *semaphore, uint64_t *value) {
    Result result = wrapped_vkGetSemaphoreCounterValue(device, semaphore, value);
    if (atomic_load(&hung)) *value = atomic_load(&reached);
    else atomic_store(&reached, *value);
    return result;
}

/* All of them, with the names that extensions gave them. */
static const struct Wrapped {
    const char *name;
    Function wrapper;
    Function *next;
} wrapped[] = {
#define ENTRY(name, function) { name, (Function)wrapped_##function, (Function *)&next_##function }
    ENTRY("vkQueueSubmit", vkQueueSubmit),
    ENTRY("vkWaitSemaphores", vkWaitSemaphores),
    ENTRY("vkWaitSemaphoresKHR", vkWaitSemaphores),
    ENTRY("vkWaitForFences", vkWaitForFences),
    { "vkGetSemaphoreCounterValue", (Function)wrapped_counter, (Function *)&next_vkGetSemaphoreCounterValue },
    { "vkGetSemaphoreCounterValueKHR", (Function)wrapped_counter, (Function *)&next_vkGetSemaphoreCounterValue },
    ENTRY("vkAllocateMemory", vkAllocateMemory),
    ENTRY("vkCreateComputePipelines", vkCreateComputePipelines),
    ENTRY("vkMapMemory", vkMapMemory),
    ENTRY("vkCreateBuffer", vkCreateBuffer),
    ENTRY("vkBeginCommandBuffer", vkBeginCommandBuffer),
    ENTRY("vkAllocateDescriptorSets", vkAllocateDescriptorSets),
    ENTRY("vkDeviceWaitIdle", vkDeviceWaitIdle),
};
#define WRAPPED (sizeof wrapped / sizeof *wrapped)

/* The loader's note for this layer in the chain of what is created, taken off it. */
static struct Next *next_layer(const void *info, int type) {
    for (const struct Chain *at = ((const struct Chain *)info)->next; at; at = at->next) {
        struct Link *link = (struct Link *)at;
        if (at->type == type && link->function == LINK) {
            struct Next *next = link->layer;
            link->layer = next->next;
            return next;
        }
    }
    return 0;
}

static Result create_instance(const void *info, const void *allocator, void **made) {
    struct Next *next = next_layer(info, LOADER_INSTANCE);
    if (!next) return NO_HOST_MEMORY;
    next_of_instance = next->of_instance;
    Result (*create)(const void *, const void *, void **) = (void *)next_of_instance(0, "vkCreateInstance");
    Result result = create(info, allocator, made);
    if (result) return result;
    instance = *made;
    /* Now, or never: later the loader answers with what this layer has put in its place. */
    next_properties = (void *)next_of_instance(instance, "vkGetPhysicalDeviceProperties");
    next_properties2 = (void *)next_of_instance(instance, "vkGetPhysicalDeviceProperties2");
    next_create_device = (void *)next_of_instance(instance, "vkCreateDevice");
    return SUCCESS;
}

static Result create_device(void *physical, const void *info, const void *allocator, void **made) {
    struct Next *next = next_layer(info, LOADER_DEVICE);
    Result fault = injected(DEVICE, EVER);
    if (!next || fault) return fault ? fault : NO_HOST_MEMORY;
    Lookup of_device = next->of_device;
    Result result = next_create_device(physical, info, allocator, made);
    if (result) return result;
    next_of_device = of_device;
    for (size_t i = 0; i < WRAPPED; i++) {
        Function found = of_device(*made, wrapped[i].name);
        if (found) *wrapped[i].next = found;
    }
    return SUCCESS;
}

/* VkPhysicalDeviceProperties: four numbers, then the type; VkPhysicalDeviceProperties2: a chain before it. */
static void properties(void *physical, uint32_t *filled) {
    next_properties(physical, filled);
    filled[4] = DISCRETE_GPU;
}

static void properties2(void *physical, uint32_t *filled) {
    next_properties2(physical, filled);
    filled[4 + 4] = DISCRETE_GPU;
}

static Function lookup_of_device(void *device, const char *name) {
    if (!strcmp(name, "vkGetDeviceProcAddr")) return (Function)lookup_of_device;
    for (size_t i = 0; i < WRAPPED; i++)
        if (!strcmp(name, wrapped[i].name)) return *wrapped[i].next ? wrapped[i].wrapper : 0;
    return next_of_device(device, name);
}

static Function lookup_of_instance(void *of, const char *name) {
    if (!strcmp(name, "vkGetInstanceProcAddr")) return (Function)lookup_of_instance;
    if (!strcmp(name, "vkCreateInstance")) return (Function)create_instance;
    if (!strcmp(name, "vkCreateDevice")) return (Function)create_device;
    if (!strcmp(name, "vkGetDeviceProcAddr")) return (Function)lookup_of_device;
    if (getenv("TERSOR_FAULT_HARDWARE")) {
        if (!strcmp(name, "vkGetPhysicalDeviceProperties")) return (Function)properties;
        if (!strcmp(name, "vkGetPhysicalDeviceProperties2")) return (Function)properties2;
        if (!strcmp(name, "vkGetPhysicalDeviceProperties2KHR")) return (Function)properties2;
    }
    return next_of_instance ? next_of_instance(of, name) : 0;
}

__attribute__((visibility("default"))) Result vkNegotiateLoaderLayerInterfaceVersion(struct Negotiation *with) {
    with->version = 2;
    with->of_instance = lookup_of_instance;
    with->of_device = lookup_of_device;
    with->of_physical_device = 0;
    return SUCCESS;
}
