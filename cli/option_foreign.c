// option_foreign.c - the options of LLaMA-Factory, the Trainer, axolotl and LMFlow that have no meaning here, so that a
// pasted configuration runs when it asks for nothing that is missing, and is refused by name when it does.
#include "cli/options.h"
#include <string.h>

#define ONLY_16_BIT    "weights are bf16 with exact fp32 masters; quantised training is not there"
#define NO_ADAPTERS    "adapters (LoRA and its kin) are not there; finetuning_type is lisa or full"
#define ONE_MACHINE    "training runs in one process on one machine"
#define NO_REPORT      "metrics go to metrics.jsonl in output_dir only"
#define OTHER_METHOD   "this method is not there; finetuning_type is lisa or full"
#define ONLY_TEXT      "only text models are trained"
#define NO_BEST        "evaluation does not choose or end anything; the last state is the result"
#define OTHER_OUTPUT   "the trained model lies in output_dir; there is no upload"
#define NO_ADDED_LOSS  "the loss is plain cross-entropy"
#define OTHER_SCHEDULE "the learning rate follows lr_scheduler_type with warmup_ratio or warmup_steps"
#define ONLY_ADAMW     "the optimizer is AdamW; optim_bits=16 makes its two moments half as large"
#define NO_STREAMING   "the data is read once before training and then held as token ids"
#define ADAMW_NAMES                                                                                                    \
    "adamw_torch adamw_torch_fused adamw_hf adamw_8bit adamw_bnb_8bit adamw_torch_8bit paged_adamw_32bit "             \
    "paged_adamw_8bit"

// Any value is fine.
#define IGNORED(name)                                                                                                  \
    { name, "*", NULL, NULL }

static const ForeignOption foreign_options[] = {
    // what the command, the backend or the plan decides
    {"do_train", "true", NULL, "`lisa train` trains"},
    IGNORED("do_eval"),
    {"do_predict", NULL, NULL, "`lisa generate` and `lisa eval` show what was learned"},
    {"predict_with_generate", NULL, NULL, "evaluation is the loss over target tokens"},
    {"compute_accuracy", NULL, NULL, "evaluation is the loss over target tokens"},
    {"stage", "sft", NULL, "only sft is there; plain text is recognised in the data (.txt, or a key \"text\")"},
    {"use_lisa", NULL, "finetuning_type=lisa finetuning_type=full", NULL},
    IGNORED("lisa_layers_attribute"),
    {"neat_packing", NULL, "packing=true", NULL}, // attention never crosses examples here
    {"disable_gradient_checkpointing", NULL, "gradient_checkpointing=false", NULL},
    IGNORED("bf16"),
    IGNORED("fp16"),
    IGNORED("tf32"),
    IGNORED("pure_bf16"),
    IGNORED("bf16_full_eval"),
    IGNORED("fp16_full_eval"),
    IGNORED("torch_dtype"),
    IGNORED("dtype"),
    IGNORED("upcast_layernorm"),
    IGNORED("upcast_lmhead_output"),
    IGNORED("infer_dtype"),
    IGNORED("flash_attn"),
    IGNORED("flash_attention"),
    IGNORED("flash_attn_*"),
    IGNORED("sdp_attention"),
    IGNORED("xformers_attention"),
    IGNORED("attn_implementation"),
    IGNORED("use_flash_attention"),
    IGNORED("enable_liger_kernel"),
    IGNORED("use_liger_kernel"),
    IGNORED("liger_*"),
    IGNORED("plugins"),
    IGNORED("accelerator_config"),
    IGNORED("auto_find_batch_size"), // the plan is made before the first step
    IGNORED("use_cpu"),
    IGNORED("no_cuda"),
    IGNORED("use_unsloth"),
    IGNORED("use_unsloth_gc"),
    IGNORED("use_reentrant_gc"),
    IGNORED("gradient_checkpointing_kwargs"),
    IGNORED("torch_compile*"),
    IGNORED("torch_empty_cache_steps"),
    IGNORED("use_cache"),
    IGNORED("low_cpu_mem_usage"),
    {"optim", ADAMW_NAMES, NULL, ONLY_ADAMW}, // of those in 8 bits, ours has the more exact moments
    {"adafactor", NULL, NULL, ONLY_ADAMW},
    {"optim_args", NULL, NULL, ONLY_ADAMW},
    {"optim_target_modules", NULL, NULL, OTHER_METHOD},
    {"lr_scheduler_kwargs", NULL, NULL, OTHER_SCHEDULE},
    {"lr_quadratic_warmup", NULL, NULL, OTHER_SCHEDULE},
    {"cosine_*", NULL, NULL, OTHER_SCHEDULE},
    {"optimizer", ADAMW_NAMES " adamw adam", NULL, ONLY_ADAMW},
    IGNORED("per_device_eval_batch_size"), // examples lie end to end in micro-batches of the plan
    IGNORED("eval_batch_size"),
    IGNORED("eval_accumulation_steps"),
    IGNORED("eval_table_size"),
    IGNORED("eval_max_new_tokens"),
    {"prediction_loss_only", "true", NULL, "evaluation is the loss over target tokens"},
    {"eval_delay", NULL, NULL, "evaluation starts before step 1"},
    IGNORED("eval_on_start"), // always
    IGNORED("include_num_input_tokens_seen"),
    IGNORED("include_tokens_per_second"),
    IGNORED("include_effective_tokens_per_second"),
    IGNORED("full_determinism"),
    IGNORED("trust_remote_code"),
    IGNORED("use_fast_tokenizer"),
    IGNORED("tokenizer_type"),
    IGNORED("model_type"),
    IGNORED("is_llama_derived_model"),
    IGNORED("is_mistral_derived_model"),
    IGNORED("arch_type"),
    IGNORED("cache_dir"),
    {"model_revision", "main", NULL, "the local cache has what was fetched; give the folder of another revision"},
    {"train_from_scratch", NULL, NULL, "training starts from the model's weights"},
    IGNORED("tokenizer_use_fast"),
    IGNORED("tokenizer_legacy"), // tokenizer_config.json says so
    IGNORED("strict"),
    IGNORED("special_tokens"),

    // how other tools prepare their data
    IGNORED("preprocessing_num_workers"),
    IGNORED("preprocessing_batch_size"),
    IGNORED("dataset_processes"),
    IGNORED("dataset_prepared_path"),
    IGNORED("dataloader_num_workers"),
    IGNORED("dataloader_pin_memory"),
    IGNORED("dataloader_persistent_workers"),
    IGNORED("dataloader_prefetch_factor"),
    IGNORED("overwrite_cache"),
    IGNORED("remove_unused_columns"),
    {"ignore_pad_token_for_loss", "true", NULL, "padding is never computed"},
    IGNORED("pad_to_sequence_len"),
    IGNORED("pad_to_multiple_of"),
    IGNORED("eval_sample_packing"),
    {"tokenized_path", NULL, NULL, "tokens are not stored; give the data itself as dataset"},
    {"mask_prompt", NULL, "train_on_prompt=false train_on_prompt=true", NULL},
    {"data_seed", NULL, NULL, "seed also gives the order of the examples"},
    {"dataloader_drop_last", NULL, NULL, "every example is used once per epoch"},
    {"shuffle_merged_datasets", "true", NULL, "data sets are laid one after the other and shuffled"},
    {"mix_strategy", "concat", NULL, "data sets are laid one after the other and shuffled"},
    {"interleave_probs", NULL, NULL, "data sets are laid one after the other and shuffled"},
    {"streaming", NULL, NULL, NO_STREAMING},
    IGNORED("buffer_size"),
    {"group_by_length", NULL, NULL, "examples lie end to end, so grouping by length would save nothing"},
    IGNORED("length_column_name"),
    IGNORED("split_special_tokens"), // text never becomes a special token here
    {"tokens", NULL, NULL, "the vocabulary is not changed"},
    {"resize_vocab", NULL, NULL, "the vocabulary is not changed"},
    {"new_special_tokens", NULL, NULL, "the vocabulary is not changed"},
    {"add_tokens", NULL, NULL, "the vocabulary is not changed"},
    {"rope_scaling", NULL, NULL, "the model's own rope scaling is used"},
    {"tool_format", NULL, NULL, "records with tool roles are not there"},
    IGNORED("enable_thinking"),
    IGNORED("image_*"),
    IGNORED("video_*"),
    IGNORED("audio_*"),
    {"media_dir", NULL, NULL, ONLY_TEXT},
    IGNORED("freeze_vision_tower"),
    IGNORED("freeze_multi_modal_projector"),
    {"freeze_language_model", NULL, NULL, ONLY_TEXT},

    // reports
    {"report_to", NULL, NULL, NO_REPORT},
    IGNORED("plot_loss"),
    IGNORED("run_name"),
    IGNORED("logging_dir"),
    IGNORED("logging_first_step"),
    {"logging_strategy", "steps", NULL, "metrics are written every logging_steps"},
    IGNORED("logging_nan_inf_filter"),
    IGNORED("disable_tqdm"),
    IGNORED("log_on_each_node"),
    IGNORED("skip_memory_metrics"),
    IGNORED("include_for_metrics"),
    IGNORED("profiler_steps"),
    {"wandb_*", NULL, NULL, NO_REPORT},
    {"use_wandb", NULL, NULL, NO_REPORT},
    {"mlflow_*", NULL, NULL, NO_REPORT},
    {"use_swanlab", NULL, NULL, NO_REPORT},
    {"use_tensorboard", NULL, NULL, NO_REPORT},
    {"comet_*", NULL, NULL, NO_REPORT},
    {"use_comet", NULL, NULL, NO_REPORT},
    {"use_mlflow", NULL, NULL, NO_REPORT},
    IGNORED("swanlab_*"),
    IGNORED("debug"),

    // saving
    {"save_only_model", NULL, NULL, "a checkpoint always holds what resuming needs"},
    {"save_safetensors", "true", NULL, "weights are written as safetensors"},
    IGNORED("save_on_each_node"),
    {"auto_resume_from_checkpoints", "true", NULL, "set overwrite_output_dir: true to start anew"},
    {"load_best_model_at_end", NULL, NULL, NO_BEST},
    IGNORED("metric_for_best_model"),
    IGNORED("greater_is_better"),
    IGNORED("evals_per_epoch"), // one per epoch where eval_steps does not say otherwise
    IGNORED("saves_per_epoch"), // likewise
    IGNORED("loss_watchdog_*"), // a loss that is no number ends the run
    {"early_stopping_*", NULL, NULL, NO_BEST},
    {"push_to_hub", NULL, NULL, OTHER_OUTPUT},
    IGNORED("hub_*"),
    IGNORED("hf_hub_token"),
    IGNORED("hf_use_auth_token"),
    IGNORED("export_device"),
    IGNORED("export_hub_*"),
    {"export_legacy_format", NULL, NULL, "weights are written as safetensors, not as pickle files"},
    {"export_quantization_*", NULL, NULL, "lisa export quantises by outtype: q8_0 or q4_0"},

    // many machines
    IGNORED("ddp_*"),
    IGNORED("local_rank"),
    {"ray_*", NULL, NULL, ONE_MACHINE},
    {"deepspeed", NULL, NULL, ONE_MACHINE},
    {"fsdp*", NULL, NULL, ONE_MACHINE},

    // methods that are not there. Their details have no effect as long as the method itself is off.
    {"adapter", NULL, NULL, NO_ADAPTERS},
    {"adapter_name_or_path", NULL, NULL, NO_ADAPTERS},
    {"lora_model_dir", NULL, NULL, NO_ADAPTERS},
    {"top_k", NULL, NULL, "answers are drawn by temperature and top_p"},
    {"repetition_penalty", "1.0", NULL, "answers are drawn by temperature and top_p"},
    {"num_beams", "1", NULL, "answers are drawn by temperature and top_p"},
    {"use_lora", NULL, NULL, NO_ADAPTERS},
    {"use_dora", NULL, NULL, NO_ADAPTERS},
    {"use_rslora", NULL, NULL, NO_ADAPTERS},
    {"pissa_init", NULL, NULL, NO_ADAPTERS},
    {"additional_target", NULL, NULL, NO_ADAPTERS},
    {"create_new_adapter", NULL, NULL, NO_ADAPTERS},
    IGNORED("lora_*"),
    {"quantization_bit", NULL, NULL, ONLY_16_BIT},
    IGNORED("quantization_method"),
    IGNORED("quantization_type"),
    IGNORED("double_quantization"),
    {"load_in_8bit", NULL, NULL, ONLY_16_BIT},
    {"load_in_4bit", NULL, NULL, ONLY_16_BIT},
    {"use_galore", NULL, NULL, OTHER_METHOD},
    IGNORED("galore_*"),
    {"use_apollo", NULL, NULL, OTHER_METHOD},
    IGNORED("apollo_*"),
    {"use_badam", NULL, NULL, OTHER_METHOD},
    IGNORED("badam_*"),
    {"use_adam_mini", NULL, NULL, OTHER_METHOD},
    {"use_muon", NULL, NULL, OTHER_METHOD},
    {"use_llama_pro", NULL, NULL, OTHER_METHOD},
    IGNORED("freeze_trainable_*"),
    IGNORED("freeze_extra_modules"),
    {"loraplus_*", NULL, NULL, NO_ADAPTERS},
    {"mixture_of_depths", NULL, NULL, OTHER_METHOD},
    {"shift_attn", NULL, NULL, OTHER_METHOD},
    {"s2_attention", NULL, NULL, OTHER_METHOD},
    {"unfrozen_parameters", NULL, NULL, OTHER_METHOD},
    {"relora_*", NULL, NULL, OTHER_METHOD},
    {"rl", NULL, NULL, OTHER_METHOD},
    {"peft_*", NULL, NULL, NO_ADAPTERS},
    {"neftune_noise_alpha", NULL, NULL, NO_ADDED_LOSS},
    {"label_smoothing_factor", NULL, NULL, NO_ADDED_LOSS},
    {"use_dft_loss", NULL, NULL, NO_ADDED_LOSS},
    IGNORED("pref_*"),
    IGNORED("dpo_*"),
    IGNORED("ppo_*"),
    {"ref_model", NULL, NULL, OTHER_METHOD},
    {"reward_model", NULL, NULL, OTHER_METHOD},
};

const ForeignOption *foreign_option_find(const char *name) {
    for (size_t i = 0; i < sizeof foreign_options / sizeof foreign_options[0]; i++) {
        const char *pattern = foreign_options[i].name;
        size_t length = strlen(pattern);
        bool open = pattern[length - 1] == '*';
        if (open ? !strncmp(name, pattern, length - 1) : !strcmp(name, pattern)) return &foreign_options[i];
    }
    return NULL;
}
